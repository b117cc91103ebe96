"""A table of texts, and its two renderings: for a terminal or log file, and as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from cifar.errors import printable


@dataclass(frozen=True)
class Table:
    """A titled table of texts.

    Attributes:
        title: a few words.
        columns: headings. `heading>` aligns right and never breaks its texts, `heading<` aligns left and never
            breaks them; all others align left and break long texts into lines.
        rows: a text per column. The best value of a column may be marked with a `*` at its end.
        notes: what a reader must know, a paragraph each, below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def heading(column: str) -> str:
    """Return a column's heading without its alignment."""
    return column.rstrip("<>")


def _never_breaks(column: str) -> bool:
    return column.endswith(("<", ">"))


def render(table: Table) -> Group:
    """Return a table as a renderable for a rich console, which lays it out for its width.

    Texts are shown as they are: a path may look like rich's markup or contain control characters.
    """
    title = Text(printable(table.title), "table.title")
    notes = [Text(printable(note), "table.caption") for note in table.notes]
    return Group(title, _Body(table), *notes)


@dataclass(frozen=True)
class _Body:
    """The columns of a table, laid out where they are printed: only there the width is known."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table, width = self.table, options.max_width
        blanks_before = 1  # there is always one after a cell
        if _min_width(table, blanks_between=2) > width:
            blanks_before = 0
        body = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, blanks_before))
        for column, column_width in zip(table.columns, _column_widths(table, width, blanks_before + 1), strict=True):
            body.add_column(
                heading(column),
                width=column_width,
                justify="right" if column.endswith(">") else "left",
                no_wrap=_never_breaks(column),
                overflow="fold",
            )
        for row in table.rows:
            body.add_row(*[Text(printable(cell)) for cell in row])
        yield body


def narrowed(table: Table, width: int, expendable: Sequence[str]) -> Table:
    """Return a table without as many columns as do not fit `width` characters; a note names them.

    Args:
        table: whole.
        width: of a terminal.
        expendable: the columns that may be left out, the first of them first.
    """
    left_out: list[str] = []
    for column in expendable:
        if _min_width(table, blanks_between=1) <= width:
            break
        if column in table.columns:
            place = table.columns.index(column)
            columns = [*table.columns[:place], *table.columns[place + 1 :]]
            rows = [[*row[:place], *row[place + 1 :]] for row in table.rows]
            table = replace(table, columns=columns, rows=rows)
            left_out.append(heading(column))
    if left_out:
        note = f"Left out, since the terminal has {width} columns: {', '.join(left_out)}."
        table = replace(table, notes=[note, *table.notes])
    return table


def _min_width(table: Table, blanks_between: int) -> int:
    """Characters that a table takes if no word is broken."""
    return sum(_longest_words(table)) + blanks_between * (len(table.columns) - 1)


def _longest_words(table: Table) -> list[int]:
    """Characters of the longest text of each column that is not broken."""
    longest = []
    for column, *cells in zip(table.columns, *table.rows, strict=True):
        texts = [heading(column), *map(printable, cells)]
        if not _never_breaks(column):
            texts = " ".join(texts).split()
        longest.append(max(map(cell_len, texts), default=0))
    return longest


def _column_widths(table: Table, width: int, blanks_between: int) -> Sequence[int | None]:
    """Return the width of each column, so that no word is broken: the widest give way first.

    Where some word has to be broken it is None, which leaves it to rich: that breaks words even where all fit.
    """
    least = _longest_words(table)
    free = width - blanks_between * (len(least) - 1)
    if sum(least) > free:
        return [None] * len(least)
    widths = []
    for column, *cells in zip(table.columns, *table.rows, strict=True):
        widths.append(max(cell_len(printable(text)) for text in (heading(column), *cells)))
    while sum(widths) > free:
        can_shrink = [place for place, least_width in enumerate(least) if widths[place] > least_width]
        widest = max(can_shrink, key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def markdown(tables: Iterable[Table]) -> str:
    """Return tables as Markdown, each under a heading of the second level."""
    blocks = []
    for table in tables:
        blocks.append(f"## {table.title}")
        blocks.append(markdown_table(table.columns, table.rows))
        for note in table.notes:
            blocks.append(note.replace("*", "\\*"))
    return "\n\n".join(blocks) + "\n"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, a line per row; columns as in a Table."""
    headings, alignments = [], []
    for column in columns:
        headings.append(heading(column))
        alignments.append("--:" if column.endswith(">") else ":--")
    lines = [_markdown_line(headings), _markdown_line(alignments)]
    for row in rows:
        lines.append(_markdown_line(row))
    return "\n".join(lines)


def _markdown_line(cells: Sequence[str]) -> str:
    escaped = [printable(cell).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
