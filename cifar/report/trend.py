"""Accuracy, size, latency and throughput over releases, from the results in a folder, one per release."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group

from cifar.compare import results
from cifar.compare.results import BenchmarkResult, BenchmarkRow
from cifar.errors import UsageError
from cifar.report.table import Table, render
from cifar.system import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 6  # releases in the terminal, the latest


@dataclass(frozen=True)
class Quantity:
    """What is followed.

    Attributes:
        title: with its unit.
        kind: of row.
        text: of a value.
        value: of a row's columns, None where it has none.
    """

    title: str
    kind: str
    text: Callable[[float], str]
    value: Callable[[BenchmarkRow], float | None]


def _column(name: str, factor: float = 1.0, batch: int | None = None) -> Callable[[BenchmarkRow], float | None]:
    def value(row: BenchmarkRow) -> float | None:
        number: float | None = getattr(row.columns, name)
        if number is None or batch not in (None, row.columns.batch):
            return None
        return factor * number

    return value


QUANTITIES = (
    Quantity("Test accuracy, %", "inference", "{:.2f}".format, _column("accuracy", 100, batch=1)),
    Quantity("Size, kB", "inference", "{:,.0f}".format, _column("file_bytes", 0.001, batch=1)),
    Quantity("Latency of one image, median, ms", "inference", "{:.3g}".format, _column("p50_ms", batch=1)),
    Quantity("Training, images/s", "training", "{:,.0f}".format, _column("images_per_second")),
)

Series = dict[str, list[float | None]]
"""By row, a value per release."""


@dataclass(frozen=True)
class Trend:
    """Releases, oldest first, and what became of each quantity."""

    releases: list[str]
    machines: list[str]
    series: dict[str, Series]


def read(folder: Path) -> Trend:
    """Read a folder of results, named after their releases.

    Raises:
        UsageError: there is no such folder, no result in it, or one is not ours.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of results.")
    paths = sorted(folder.glob("*.json"), key=lambda path: _version(path.stem))
    if not paths:
        raise UsageError(f"{folder}: there is no result in it.")
    found = [results.read(path) for path in paths]
    series = {quantity.title: _series(quantity, found) for quantity in QUANTITIES}
    if not any(series.values()):
        raise UsageError(f"{folder}: no result in it has a row of accuracy, size, latency or training to follow.")
    machines = [
        f"{result.machine.cpu.get('model')}, {result.machine.cpu.get('logical_cores')} cores" for result in found
    ]
    return Trend([path.stem for path in paths], machines, {title: made for title, made in series.items() if made})


def _version(name: str) -> tuple[tuple[int, str], ...]:
    """0.10.0 after 0.9.0."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in name.split("."))


def _series(quantity: Quantity, found: list[BenchmarkResult]) -> Series:
    names: dict[str, None] = {}
    for result in found:
        for name, row in result.rows.items():
            if row.columns.kind == quantity.kind and quantity.value(row) is not None:
                names[name] = None
    rows = {name: [result.rows.get(name) for result in found] for name in names}
    return {name: [quantity.value(row) if row else None for row in each] for name, each in rows.items()}


def tables(trend: Trend) -> list[Group]:
    """A table per quantity: a line per row, a column per release."""
    made = []
    columns = ("row", *(f"{release}>" for release in trend.releases[-SHOWN:]))
    for quantity in QUANTITIES:
        series = trend.series.get(quantity.title, {})
        rows = [
            (_short(name), *("-" if value is None else quantity.text(value) for value in values[-SHOWN:]))
            for name, values in series.items()
        ]
        if rows:
            made.append(render(Table(quantity.title, columns, rows)))
    return made


def notes(trend: Trend) -> list[str]:
    """On which machine each release was measured: times of different machines do not compare."""
    return [f"{release}: {machine}" for release, machine in zip(trend.releases, trend.machines, strict=True)]


def draw(trend: Trend, path: Path) -> None:
    """Write the trend as a picture.

    Raises:
        cifar.errors.StorageError: it cannot be written.
    """
    with files.atomic_replace(path) as scratch:
        figure(trend).savefig(scratch, dpi=110, metadata={"Software": None})


def figure(trend: Trend) -> "Figure":
    """A panel per quantity, a line per row over the releases."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(10, 3 * len(trend.series) + 0.5), layout="constrained")
    panels = made.subplots(len(trend.series), squeeze=False)[:, 0]
    places = range(len(trend.releases))
    for axes, (title, series) in zip(panels, trend.series.items(), strict=True):
        for name, values in series.items():
            known = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
            axes.plot(*zip(*known, strict=True), marker="o", label=_short(name))
        axes.set_title(title, loc="left")
        axes.set_xticks(list(places), trend.releases)
        axes.margins(x=0.1)
        axes.set_ylim(bottom=0 if "accuracy" not in title else None)
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")
    return made


def _short(name: str) -> str:
    return results.split_row_name(name)[1].removesuffix("-cpu") or name
