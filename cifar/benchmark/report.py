"""The measurements of a session for people: tables in the terminal and in Markdown, rows as JSON, a figure."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cifar.benchmark.measurements import Measurements
from cifar.benchmark.tables import EXPENDABLE, all_tables, inference_rows, is_in_own_runtime
from cifar.compare.benchmark_results import FORMAT_VERSION
from cifar.report.table import markdown as tables_as_markdown
from cifar.report.table import narrowed, render
from cifar.system import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 100  # characters of the tables
MARKERS = "os^Dv"  # of batch sizes


def show(measurements: Measurements, stream: Any) -> None:
    """Print the tables."""
    is_terminal = getattr(stream, "isatty", bool)()
    console = Console(file=stream, width=None if is_terminal else WIDTH, highlight=False)
    width = min(console.width, WIDTH)
    for table in all_tables(measurements):
        console.print(render(narrowed(table, width, EXPENDABLE)), "")
    for line in _missing_lines(measurements):
        console.print(line, soft_wrap=True, markup=False)


def _missing_lines(measurements: Measurements) -> list[str]:
    """A line per row that failed, and one per reason for which rows were skipped."""
    lines = []
    skipped = Counter(missing.reason for missing in measurements.missing if missing.outcome == "skipped")
    for missing in measurements.missing:
        count = skipped.pop(missing.reason, 0) if missing.outcome == "skipped" else 1
        more = f" and {count - 1} more" if count > 1 else ""
        if count:
            lines.append(f"{missing.outcome}: {missing.case}{more}: {missing.reason}")
    return lines


def markdown(measurements: Measurements) -> str:
    """Return the tables as Markdown."""
    text = tables_as_markdown(all_tables(measurements))
    if measurements.missing:
        text += "\n## Not measured\n\n"
        for missing in measurements.missing:
            text += f"- {missing.outcome}: `{missing.case}`: {missing.reason}\n"
    return text


def content(measurements: Measurements, machine: dict[str, Any]) -> dict[str, Any]:
    """Return the measurements ready for JSON: what `cifar compare` reads."""
    return {
        "format_version": FORMAT_VERSION,
        "machine": machine,
        "rows": measurements.rows,
        "missing": list(map(asdict, measurements.missing)),
    }


def write(measurements: Measurements, machine: dict[str, Any], folder: Path) -> list[Path]:
    """Write report.md, report.json and, where there was inference, accuracy-latency.png; return their paths.

    Raises:
        StorageError: one cannot be written.
    """
    paths = [folder / "report.md", folder / "report.json"]
    files.write(paths[0], markdown(measurements))
    files.write(paths[1], json.dumps(content(measurements, machine), indent=2) + "\n")
    if any(row["accuracy"] is not None for row in measurements.of("inference")):
        paths.append(folder / "accuracy-latency.png")
        with files.atomic_replace(paths[-1]) as path:
            figure(measurements).savefig(path, dpi=110, metadata={"Software": None})
    return paths


def figure(measurements: Measurements) -> "Figure":
    """Draw accuracy over time per image: a colour per format, each in its own runtime, a mark per batch size."""
    from matplotlib.figure import Figure

    rows = []
    for row in inference_rows(measurements):
        if row["accuracy_percent"] is not None and is_in_own_runtime(row):
            rows.append(row)
    formats = list(dict.fromkeys(row["format"] for row in measurements.of("inference")))
    batches = sorted({row["batch"] for row in rows})
    drawing = Figure(figsize=(8.5, 5), layout="constrained")
    axes = drawing.subplots()
    for row in rows:
        axes.plot(
            1000 / row["images_per_second"],
            row["accuracy_percent"],
            marker=MARKERS[batches.index(row["batch"]) % len(MARKERS)],
            color=f"C{formats.index(row['format'])}",
            markersize=9,
            alpha=0.8,
            linestyle="",
        )
    for number, name in enumerate(formats):
        axes.plot([], [], "o", color=f"C{number}", label=name)
    for number, batch in enumerate(batches):
        axes.plot([], [], MARKERS[number % len(MARKERS)], color="grey", label=f"batch {batch}")
    models = dict.fromkeys(row["model"] for row in rows)
    axes.set_title(", ".join(models))
    _label_axes(axes)
    return drawing


def _label_axes(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("milliseconds per image (median), logarithmic")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
