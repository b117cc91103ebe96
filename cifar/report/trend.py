"""Accuracy, size, latency and throughput over releases, from a folder with one benchmark result per release."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar.compare import benchmark_results
from cifar.compare.benchmark_results import BenchmarkResult, BenchmarkRow, split_row_name
from cifar.errors import UsageError
from cifar.report import numbers
from cifar.report.table import Table
from cifar.system import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_RELEASES = 6  # in a table, the latest


@dataclass(frozen=True)
class Quantity:
    """What is followed over releases.

    Attributes:
        title: with its unit.
        kind: of the rows that have it.
        column: of those rows.
        factor: from the column's unit to the title's.
        format: of a value.
        batch: of the rows that count; None for all.
    """

    title: str
    kind: str
    column: str
    factor: float
    format: str
    batch: int | None = None

    def value(self, row: BenchmarkRow) -> float | None:
        """Return the row's value; None if it has none."""
        columns = row.columns
        value = getattr(columns, self.column)
        if value is None or columns.kind != self.kind:
            return None
        if self.batch is not None and columns.batch != self.batch:
            return None
        return float(self.factor * value)


QUANTITIES = (
    Quantity("Test accuracy, %", "inference", "accuracy", 100, "{:.2f}", batch=1),
    Quantity("Size, kB", "inference", "file_bytes", 0.001, "{:,.0f}", batch=1),
    Quantity("Latency of one image, median, ms", "inference", "p50_ms", 1, "{:.3g}", batch=1),
    Quantity("Training, images/s", "training", "images_per_second", 1, "{:,.0f}"),
)

Series = dict[str, list[float | None]]
"""By row, a value per release."""


@dataclass(frozen=True)
class Trend:
    """Quantities over releases.

    Attributes:
        releases: their names, oldest first.
        machines: which machine measured each release.
        series: by the quantity's title.
    """

    releases: list[str]
    machines: list[str]
    series: dict[str, Series]


def read(folder: Path) -> Trend:
    """Read a folder of benchmark results, named after their releases.

    Raises:
        UsageError: the folder does not exist, has no result, or one is not a benchmark result.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of results.")
    paths = sorted(folder.glob("*.json"), key=lambda path: _version(path.stem))
    if not paths:
        raise UsageError(f"{folder}: there is no result in it.")
    measured = list(map(benchmark_results.read, paths))
    series = {}
    for quantity in QUANTITIES:
        values = _series(quantity, measured)
        if values:
            series[quantity.title] = values
    if not series:
        raise UsageError(f"{folder}: no result in it has a row of accuracy, size, latency or training to follow.")
    return Trend([path.stem for path in paths], list(map(_machine, measured)), series)


def _version(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts 0.10.0 after 0.9.0."""
    key = []
    for part in name.split("."):
        if part.isdigit():
            key.append((int(part), ""))
        else:
            key.append((-1, part))
    return key


def _machine(result: BenchmarkResult) -> str:
    cpu = result.machine.cpu
    return f"{cpu.get('model')}, {cpu.get('logical_cores')} cores"


def _series(quantity: Quantity, measured: Sequence[BenchmarkResult]) -> Series:
    series: Series = {}
    for number, result in enumerate(measured):
        for name, row in result.rows.items():
            value = quantity.value(row)
            if value is not None:
                values = series.setdefault(name, [None] * len(measured))
                values[number] = value
    return series


def tables(trend: Trend) -> list[Table]:
    """Return a table per quantity: a line per row, a column per release."""
    columns = ["row"]
    for release in trend.releases[-MAX_RELEASES:]:
        columns.append(f"{release}>")
    per_quantity = []
    for quantity in QUANTITIES:
        rows = []
        for name, values in trend.series.get(quantity.title, {}).items():
            rows.append((_short_name(name), *_texts(quantity, values[-MAX_RELEASES:])))
        if rows:
            per_quantity.append(Table(quantity.title, columns, rows))
    return per_quantity


def _texts(quantity: Quantity, values: Sequence[float | None]) -> list[str]:
    texts = []
    for value in values:
        if value is None:
            texts.append(numbers.NONE)
        else:
            texts.append(quantity.format.format(value))
    return texts


def notes(trend: Trend) -> list[str]:
    """Return which machine measured each release: times of different machines cannot be compared."""
    lines = []
    for release, machine in zip(trend.releases, trend.machines, strict=True):
        lines.append(f"{release}: {machine}")
    return lines


def draw(trend: Trend, path: Path) -> None:
    """Write the trend as a picture.

    Raises:
        cifar.errors.StorageError: it cannot be written.
    """
    with files.atomic_replace(path) as scratch:
        figure(trend).savefig(scratch, dpi=110, metadata={"Software": None})


def figure(trend: Trend) -> "Figure":
    """Return a figure with a panel per quantity, a line per row over the releases."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10, 3 * len(trend.series) + 0.5), layout="constrained")
    panels = drawn.subplots(len(trend.series), squeeze=False)[:, 0]
    positions = range(len(trend.releases))
    for axes, (title, series) in zip(panels, trend.series.items(), strict=True):
        for name, values in series.items():
            known = [position for position in positions if values[position] is not None]
            axes.plot(known, [values[position] for position in known], marker="o", label=_short_name(name))
        axes.set_title(title, loc="left")
        axes.set_xticks(list(positions), trend.releases)
        axes.margins(x=0.1)
        if "accuracy" not in title:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")
    return drawn


def _short_name(row: str) -> str:
    _, case = split_row_name(row)
    return case.removesuffix("-cpu") or row
