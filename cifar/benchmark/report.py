"""The results of a session for people: tables in the terminal and in Markdown, rows as JSON, a figure."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.table import Table

from cifar.benchmark.tables import Result, Section, inference_rows, sections
from cifar.report.table import markdown_table
from cifar.system import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT_VERSION = 1
WIDTH = 100


def show(result: Result, stream: Any) -> None:
    """Print the tables."""
    console = Console(file=stream, width=None if getattr(stream, "isatty", bool)() else WIDTH, highlight=False)
    for section in sections(result):
        console.print(_rich(section), "")
    for case, outcome, reason in result.missing:
        console.print(f"{outcome}: {case}: {reason}", soft_wrap=True, markup=False)


def _rich(section: Section) -> Group:
    table = Table(title=section.title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for column in section.columns:
        table.add_column(column.heading, justify="right" if column.right else "left", no_wrap=column.right)
    for cells in section.cells:
        table.add_row(*cells)
    return Group(table, *section.notes)


def markdown(result: Result) -> str:
    """The tables as Markdown."""
    text = io.StringIO()
    for section in sections(result):
        text.write(f"## {section.title}\n\n")
        columns = [column.heading + ">" * column.right for column in section.columns]
        text.write(markdown_table(columns, section.cells) + "\n")
        text.write("\n" + "\n\n".join(section.notes).replace("*", "\\*") + "\n\n")
    if result.missing:
        text.write("## Not measured\n\n")
        text.writelines(f"- {outcome}: `{case}`: {reason}\n" for case, outcome, reason in result.missing)
    return text.getvalue()


def write(result: Result, machine: dict[str, Any], folder: Path) -> list[Path]:
    """Write report.md, report.json and, where there was inference, accuracy-latency.png.

    Raises:
        StorageError: one cannot be written.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "machine": machine,
        "rows": result.rows,
        "missing": [dict(zip(("case", "outcome", "reason"), entry, strict=True)) for entry in result.missing],
    }
    files.write(folder / "report.md", markdown(result))
    files.write(folder / "report.json", json.dumps(content, indent=2) + "\n")
    written = [folder / "report.md", folder / "report.json"]
    if any(row["accuracy"] is not None for row in result.of("inference")):
        written.append(folder / "accuracy-latency.png")
        with files.atomic_replace(written[-1]) as path:
            figure(result).savefig(path, dpi=110, metadata={"Software": None})
    return written


def figure(result: Result) -> "Figure":
    """Accuracy over time per image: a colour per format, a mark per batch size."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    rows = [row for row in inference_rows(result) if row["accuracy_percent"] is not None]
    made = Figure(figsize=(8.5, 5), layout="constrained")
    axes = made.subplots()
    formats = list(dict.fromkeys(row["format"] for row in result.of("inference")))
    batches = sorted({row["batch"] for row in rows})
    for row in rows:
        axes.plot(
            1000 / row["images_per_second"],
            row["accuracy_percent"],
            marker="os^Dv"[batches.index(row["batch"]) % 5],
            color=f"C{formats.index(row['format'])}",
            markersize=9,
            alpha=0.8,
            linestyle="",
        )
    for number, name in enumerate(formats):
        axes.plot([], [], "o", color=f"C{number}", label=name)
    for number, batch in enumerate(batches):
        axes.plot([], [], "os^Dv"[number % 5], color="grey", label=f"batch {batch}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("milliseconds per image (median), logarithmic")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(", ".join(dict.fromkeys(f"{row['model']}" for row in rows)))
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return made
