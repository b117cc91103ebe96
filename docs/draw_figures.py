"""Draw the figures of the documents from committed results.

Usage, in the root of a clone: python docs/draw_figures.py
"""

import hashlib
import io
import json
import re
import statistics
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from cifar import __version__
from cifar.analysis.groups import Group
from cifar.analysis.summary import Summary, summarise
from cifar.benchmark.tables import is_in_own_runtime
from cifar.report import terminal
from cifar.report.html.trade_off import use_logarithmic_scale
from cifar.runs.run import runs_in

RESULTS = Path("bench", "history", f"{__version__}.json")
EPOCH_TIMES = Path("bench", "recipes", "epoch_times.json")
BASELINES = Path("bench", "baselines")
ACCURACY_COST = Path("docs", "accuracy-cost.png")
REPORT = Path("docs", "report.svg")

NETWORK_COLORS = {
    "first": "#0072b2",
    "second": "#009e73",
    "third": "#d55e00",
    "resnet8": "#cc79a7",
    "airbench94": "#333333",
}
RECIPE_MARKERS = {"published": "o", "published-256": "p", "tuned": "s"}  # the others have a network of their own
OWN_RECIPE_MARKER = "D"
POLICIES = ("none", "shift-flip", "pad-crop-alternating-flip")  # not those tried with a single seed
FORMAT_MARKERS = {
    "tflite-int8": "v",
    "onnx-int8": "^",
    "tflite": "s",
    "tflite-float16": "d",
    "onnx": "o",
    "saved-model": "P",
    "keras": "X",
}
LEGEND_STYLE = {"frameon": False, "fontsize": 9, "handletextpad": 0.2, "columnspacing": 1.0}


@dataclass(frozen=True)
class Point:
    """A mark of a figure.

    Attributes:
        network: gives its color.
        marker: of matplotlib.
        cost: PFLOP, minutes or milliseconds.
        accuracy: of the test images, in percent.
        lowest, highest: of the seeds, in percent.
        hollow: whether it was trained without augmentation.
    """

    network: str
    marker: str
    cost: float
    accuracy: float
    lowest: float
    highest: float
    hollow: bool = False


@cache
def reference_runs() -> Summary:
    """Return the reference runs, read once."""
    return summarise(runs_in(BASELINES))


def training_points(cost_of: Callable[[Group], float | None]) -> list[Point]:
    """Return a point per recipe and policy of the reference runs whose cost is known.

    Args:
        cost_of: the cost of a run of a group; None where it is not known.
    """
    points = []
    for group in reference_runs().groups:
        cost = cost_of(group)
        if cost is None:
            continue
        recipe = group.results[0].run.recipe
        marker = RECIPE_MARKERS.get(recipe.recipe, OWN_RECIPE_MARKER)
        for policy in POLICIES:
            accuracies = [100 * result.scores.accuracy for result in group.of(policy).values()]
            if accuracies:
                mean = statistics.mean(accuracies)
                spread = min(accuracies), max(accuracies)
                points.append(Point(recipe.network, marker, cost, mean, *spread, hollow=policy == "none"))
    return points


def pflop(group: Group) -> float | None:
    """Return the operations of a training, in 10^15."""
    if group.training_flop is None:
        return None
    return group.training_flop / 1e15


def minutes(group: Group) -> float | None:
    """Return an estimate of the minutes of a training: epochs times the median of the epochs that were timed."""
    timed = json.loads(EPOCH_TIMES.read_text())["epoch_seconds"]
    for result in group.results:
        seconds = timed.get(result.run.path.name)
        if seconds is not None:
            return group.epochs * statistics.median(seconds) / 60
    return None


def latency_points(results: Path) -> list[Point]:
    """Return a point per released file, in its format's own runtime: one image at a time on one thread."""
    points = []
    for row in json.loads(results.read_text())["rows"]:
        if row["kind"] == "inference" and row["batch"] == row["threads"] == 1 and is_in_own_runtime(row):
            marker = FORMAT_MARKERS[row["format"]]
            accuracy = 100 * row["accuracy"]
            points.append(Point(row["network"], marker, row["p50_ms"], accuracy, accuracy, accuracy))
    return points


def panels() -> dict[str, list[Point]]:
    """Return the points of each panel of the figure, by the label of its cost."""
    return {
        "PFLOP of training": training_points(pflop),
        "minutes of training, two cores": training_points(minutes),
        "latency of an image, ms": latency_points(RESULTS),
    }


def digest(drawn: dict[str, list[Point]]) -> str:
    """Return the SHA-256 of the points of a figure; it is kept in the figure's file."""
    rows = {label: [astuple(point) for point in points] for label, points in drawn.items()}
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def accuracy_over_cost(drawn: dict[str, list[Point]]) -> Figure:
    """Return a figure with a panel per cost: a color per network, a marker per recipe or format."""
    figure = Figure(figsize=(11, 5.0), layout="constrained")
    all_axes = figure.subplots(1, len(drawn), sharey=True)
    for axes, (label, points) in zip(all_axes, drawn.items(), strict=True):
        for point in points:
            _draw_point(axes, point)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in all_axes[:-1]:
        axes.set_xlim(left=0)
    use_logarithmic_scale(all_axes[-1])
    all_axes[0].set_ylabel("test accuracy, %")
    figure.legend(handles=_training_entries(), loc="outside lower left", ncols=5, **LEGEND_STYLE)
    figure.legend(handles=_marker_entries(FORMAT_MARKERS), loc="outside lower right", ncols=4, **LEGEND_STYLE)
    return figure


def _draw_point(axes: Axes, point: Point) -> None:
    color = NETWORK_COLORS[point.network]
    axes.errorbar(
        point.cost,
        point.accuracy,
        yerr=[[point.accuracy - point.lowest], [point.highest - point.accuracy]],
        marker=point.marker,
        color=color,
        markerfacecolor="white" if point.hollow else color,
        markersize=8,
        elinewidth=1,
        capsize=0,
        alpha=0.85,
    )


def _training_entries() -> list[Line2D]:
    """Return the entries of the legend of training: networks, recipes, and the mark without augmentation."""
    entries = []
    for network, color in NETWORK_COLORS.items():
        entries.append(Line2D([], [], marker="o", color=color, linestyle="", label=network))
    drawn = {group.results[0].run.recipe.recipe for group in reference_runs().groups}
    markers = {recipe: marker for recipe, marker in RECIPE_MARKERS.items() if recipe in drawn}
    entries += _marker_entries({**markers, "its own recipe": OWN_RECIPE_MARKER})
    hollow = Line2D(
        [], [], marker="o", color="#777777", markerfacecolor="white", linestyle="", label="no augmentation"
    )
    return [*entries, hollow]


def _marker_entries(markers: dict[str, str]) -> list[Line2D]:
    return [
        Line2D([], [], marker=marker, color="#777777", linestyle="", label=name) for name, marker in markers.items()
    ]


def report_screen() -> str:
    """Return what `cifar report bench/baselines` prints, as SVG."""
    console = Console(record=True, width=80, height=24, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ cifar report bench/baselines", style="bold"))
    terminal.show(console, reference_runs(), BASELINES, "confident", images={}, figures=[])
    svg = console.export_svg(title="cifar report", theme=MONOKAI)
    without_web_fonts = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return without_web_fonts.replace("Fira Code", "Menlo, Consolas, DejaVu Sans Mono")


def main() -> None:
    """Draw every figure."""
    drawn = panels()
    accuracy_over_cost(drawn).savefig(ACCURACY_COST, dpi=120, metadata={"Software": None, "points": digest(drawn)})
    REPORT.write_text(report_screen())


if __name__ == "__main__":
    main()
