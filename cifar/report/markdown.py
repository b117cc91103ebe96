"""Tables as Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, a line per row; columns whose name ends with '>' are right-aligned, as those of report.terminal."""
    head = [column.rstrip(">") for column in columns]
    rule = ["--:" if column.endswith(">") else ":--" for column in columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
