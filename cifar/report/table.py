"""A table of texts, and its two renderings: for a terminal or log file, and as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from cifar.errors import printable

WIDTH = 80  # characters of a terminal that tables are laid out for


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


def render(table: Table, width: int = WIDTH) -> Group:
    """Return a table as a renderable for a rich console, laid out for `width` characters.

    Texts are shown as they are: a path may look like rich's markup or contain control characters.
    """
    blanks_before = 1  # there is always one after a cell
    if _min_width(table, blanks_between=2) > width:
        blanks_before = 0
    words_fit = _min_width(table, blanks_between=1) <= width
    body = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, blanks_before))
    for column, *cells in zip(table.columns, *table.rows, strict=True):
        body.add_column(
            heading(column),
            min_width=_longest_word(column, cells) if words_fit else None,  # rich breaks words even where all fit
            justify="right" if column.endswith(">") else "left",
            no_wrap=_never_breaks(column),
            overflow="fold",
        )
    for row in table.rows:
        body.add_row(*[Text(printable(cell)) for cell in row])
    title = Text(printable(table.title), "table.title")
    notes = [Text(printable(note), "table.caption") for note in table.notes]
    return Group(title, body, *notes)


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
    width = blanks_between * (len(table.columns) - 1)
    for column, *cells in zip(table.columns, *table.rows, strict=True):
        width += _longest_word(column, cells)
    return width


def _longest_word(column: str, cells: Sequence[str]) -> int:
    """Characters of the longest text of a column that is not broken."""
    texts = [heading(column), *cells]
    if not _never_breaks(column):
        texts = " ".join(texts).split()
    return max(map(cell_len, texts), default=0)


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
