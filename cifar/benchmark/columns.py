"""Rows as a table: which columns, in which order, and the best value marked."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from cifar.benchmark.session import Row
from cifar.report.table import Table

BEST = "*"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: as in Table.columns.
        key: of the row's value.
        form: makes a text of a value.
        best: max or min, where one of them is best.
    """

    heading: str
    key: str
    form: Callable[[Any], str] = str
    best: Callable[[list[Any]], Any] | None = None

    def text(self, row: Row) -> str:
        """Return a row's value as printed; a dash where there is none."""
        value = row.get(self.key)
        return "-" if value is None else self.form(value)


def table_of(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    notes: Sequence[str],
    group: Callable[[Row], Hashable] = lambda _row: None,
) -> Table:
    """Make a table; in each group of rows the best value of a column is marked, unless several rows share it."""
    texts = []
    for row in rows:
        texts.append([column.text(row) for column in columns])
    groups: dict[Hashable, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(group(row), []).append(number)
    for place, column in enumerate(columns):
        for members in groups.values():
            winner = _best_row(column, rows, members)
            if winner is not None:
                texts[winner][place] += BEST
    return Table(title, [column.heading for column in columns], texts, notes)


def _best_row(column: Column, rows: Sequence[Row], members: Sequence[int]) -> int | None:
    """The number of the row among `members` that is best in a column; None if that is not a single one of several."""
    known = [number for number in members if rows[number].get(column.key) is not None]
    if column.best is None or len(known) < 2:
        return None
    best = column.form(column.best([rows[number][column.key] for number in known]))
    winners = [number for number in known if column.text(rows[number]) == best]
    return winners[0] if len(winners) == 1 else None
