"""Draw the figures of the documents from committed results.

Usage, in the root of a clone: python docs/draw_figures.py
"""

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from cifar import __version__
from cifar.analysis.summary import summarise
from cifar.networks import label
from cifar.report import terminal
from cifar.runs.run import runs_in

RESULTS = Path("bench", "history", f"{__version__}.json")
BASELINES = Path("bench", "baselines")
ACCURACY_LATENCY = Path("docs", "accuracy-latency.png")
REPORT = Path("docs", "report.svg")

COLORS = {"first": "#0072b2", "second": "#009e73", "third": "#d55e00"}
LABEL_POSITIONS = {"first": (0.235, 76.9), "second": (0.105, 69.2), "third": (0.235, 81.0)}  # ms, percent
MARKERS = {  # by format: the marker and its size; formats that are equally fast lie on one another
    "tflite-int8": ("v", 9),
    "onnx-int8": ("^", 9),
    "tflite": ("s", 13),
    "tflite-float16": ("D", 6),
    "onnx": ("o", 9),
    "saved-model": ("P", 9),
    "keras": ("X", 9),
}


def single_image_rows(results: Path) -> list[dict[str, Any]]:
    """Return the inference rows of one image at a time on one thread."""
    rows = json.loads(results.read_text())["rows"]
    return [row for row in rows if row["kind"] == "inference" and row["batch"] == 1 and row["threads"] == 1]


def points(rows: list[dict[str, Any]]) -> list[tuple[str, str, float, float]]:
    """Return (network, format, median latency in ms, test accuracy in percent) of each row."""
    return [(row["network"], row["format"], row["p50_ms"], 100 * row["accuracy"]) for row in rows]


def digest(drawn: list[tuple[str, str, float, float]]) -> str:
    """Return the SHA-256 of the points of a figure; it is kept in the figure's file."""
    return hashlib.sha256(json.dumps(drawn).encode()).hexdigest()


def accuracy_over_latency(drawn: list[tuple[str, str, float, float]]) -> Figure:
    """Return a figure of accuracy over latency: a color per network, a marker per format."""
    figure = Figure(figsize=(8.6, 4.3), layout="constrained")
    axes = figure.subplots()
    for network, color in COLORS.items():
        own_points = sorted((point[2:], point[1]) for point in drawn if point[0] == network)
        axes.plot(*zip(*(place for place, _ in own_points), strict=True), color=color, alpha=0.35, linewidth=1.5)
        for (latency, accuracy), format_name in own_points:
            marker, size = MARKERS[format_name]
            axes.plot(latency, accuracy, marker=marker, color=color, markersize=size, markeredgecolor="white")
        axes.text(*LABEL_POSITIONS[network], label(network), color=color, fontsize=11, fontweight="bold")
    _style_axes(axes)
    legend_entries = []
    for format_name, (marker, size) in MARKERS.items():
        entry = Line2D([], [], marker=marker, color="#555555", linestyle="", markersize=size, label=format_name)
        legend_entries.append(entry)
    axes.legend(handles=legend_entries, title="format", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _style_axes(axes: Axes) -> None:
    ticks = (0.02, 0.05, 0.1, 0.2, 0.5)
    axes.set_xscale("log")
    axes.set_xlim(0.018, 0.62)
    axes.set_ylim(64.5, 82.4)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("median latency of one image, milliseconds (logarithmic scale)")
    axes.set_ylabel("test accuracy, %")
    axes.annotate(
        "better", (0.0205, 81.6), (0.027, 79.4), arrowprops={"arrowstyle": "->", "color": "#888888"}, color="#888888"
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def report_screen() -> str:
    """Return what `cifar report bench/baselines` prints, as SVG."""
    console = Console(record=True, width=80, height=24, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ cifar report bench/baselines", style="bold"))
    terminal.show(console, summarise(runs_in(BASELINES)), BASELINES, "confident", images={}, figures=[])
    svg = console.export_svg(title="cifar report", theme=MONOKAI)
    without_web_fonts = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return without_web_fonts.replace("Fira Code", "Menlo, Consolas, DejaVu Sans Mono")


def main() -> None:
    """Draw every figure."""
    drawn = points(single_image_rows(RESULTS))
    metadata = {"Software": None, "points": digest(drawn)}
    accuracy_over_latency(drawn).savefig(ACCURACY_LATENCY, dpi=120, metadata=metadata)
    REPORT.write_text(report_screen())


if __name__ == "__main__":
    main()
