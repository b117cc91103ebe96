"""A table before anything is said of where it is shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A titled table.

    Attributes:
        title: in a few words.
        columns: their names, and how they stand: 'name>' to the right and never cut, 'name<' never cut; others fold.
        rows: of texts.
        caption: what must be known to read it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def markdown(sections: Iterable[Section]) -> str:
    """Sections as Markdown, each under a heading of the second order."""
    blocks = []
    for section in sections:
        blocks += [f"## {section.title}", markdown_table(section.columns, section.rows)]
        blocks += [_escaped(section.caption)] if section.caption else []
    return "\n\n".join(blocks) + "\n"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, a line per row; columns named as in a Section."""
    head = [column.rstrip("<>") for column in columns]
    rule = ["--:" if column.endswith(">") else ":--" for column in columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _escaped(text: str) -> str:
    return text.replace("*", "\\*")
