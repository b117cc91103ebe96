"""Accuracy over what it costs: a point per run or file, the best trade-offs joined by a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cifar.report.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^DvP*X<>"
FADED = 0.35  # opacity of a point that another one beats in both


@dataclass(frozen=True)
class Point:
    """A run or a file.

    Attributes:
        cost: what is paid, such as minutes; larger than 0.
        accuracy: of the test images, 0 to 1.
        series: the points with the same text share a colour and a marker.
        title: shown where the pointer rests on it.
    """

    cost: float
    accuracy: float
    series: str
    title: str


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other is better than or equal to in both, cheapest first (the Pareto front)."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def draw(points: Sequence[Point], cost: str) -> tuple["Figure", dict[str, str]]:
    """Return the figure, and the titles of its points by the identifiers that these have in it.

    Args:
        points: at least one.
        cost: label of the axis.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    best = front(points)
    if len(best) > 1:
        axes.plot([point.cost for point in best], [point.accuracy for point in best], color="#888888", linewidth=1)
    titles = {}
    names = list(dict.fromkeys(point.series for point in points))
    for number, point in enumerate(points):
        place = names.index(point.series)
        (mark,) = axes.plot(
            [point.cost],
            [point.accuracy],
            MARKERS[place % len(MARKERS)],
            color=PALETTE[place % len(PALETTE)],
            alpha=1 if point in best else FADED,
            markersize=7,
            linestyle="none",
        )
        mark.set_gid(f"point{number}")
        titles[f"point{number}"] = point.title
    for place, name in enumerate(names):
        marker, colour = MARKERS[place % len(MARKERS)], PALETTE[place % len(PALETTE)]
        axes.plot([], [], marker, color=colour, linestyle="none", label=name)
    use_logarithmic_scale(axes)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel(cost)
    axes.set_ylabel("Test accuracy")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return figure, titles


def use_logarithmic_scale(axes: "Axes") -> None:
    """Make the horizontal axis logarithmic, with ticks at 1, 2 and 5 times the powers of ten, as plain numbers."""
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
