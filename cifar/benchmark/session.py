"""One session of the benchmarks: what is measured, on which models, and how fast the machine is."""

import contextlib
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar.benchmark.grid import Case, Grid, TrainingCase
from cifar.benchmark.models import Model
from cifar.benchmark.processes import ask
from cifar.errors import CifarError

DRIFT = 0.10  # change of the matrix peak above which the machine is called unsteady

Row = dict[str, Any]


class NotAvailableError(Exception):
    """A row cannot be measured on this machine: it is skipped."""


@dataclass
class Peak:
    """The float32 matrix peak at some number of threads.

    Attributes:
        product: the library whose matrix product it is.
        flops: FLOP/s, each time it was measured.
    """

    product: str
    flops: list[float]

    @property
    def best(self) -> float:
        """The largest."""
        return max(self.flops)

    @property
    def steady(self) -> bool:
        """Whether it changed by no more than a tenth during the session."""
        return min(self.flops) >= (1 - DRIFT) * self.best


@dataclass
class Session:
    """A session.

    Attributes:
        grid: how much is measured.
        models: by name.
        order_seed: of the order in which a worker takes its cases.
        inference, training: the cases that pytest will run.
        formats: those of which a file is needed.
        peaks: by number of threads.
    """

    grid: Grid
    models: dict[str, Model]
    order_seed: int
    inference: Sequence[Case] = ()
    training: Sequence[TrainingCase] = ()
    formats: Collection[str] = ()
    peaks: dict[int, Peak] = field(default_factory=dict)
    _prepared: dict[str, CifarError | None] = field(default_factory=dict)
    _folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="cifar-bench-")
    )

    @property
    def scratch(self) -> Path:
        """A folder that ends with the session."""
        return Path(self._folder.name)

    def model(self, name: str) -> Model:
        """A model, its files found or made.

        Raises:
            CifarError: they cannot be, each time it is asked for.
        """
        if name not in self._prepared:
            try:
                self.models[name].prepare(self.scratch, self.formats)
            except CifarError as error:
                self._prepared[name] = error
            else:
                self._prepared[name] = None
        failure = self._prepared[name]
        if failure is not None:
            raise failure
        return self.models[name]

    def measure_peak(self, threads: int) -> None:
        """Measure the matrix peak at a number of threads, unless that was done already."""
        if threads not in self.peaks:
            answer = ask("peak", threads, threads=threads)
            self.peaks[threads] = Peak(answer["product"], [answer["flops"]])

    def end(self, interrupted: bool) -> None:
        """Measure every peak once more, unless the user does not want to wait, and remove the scratch folder."""
        for threads, peak in self.peaks.items():
            with contextlib.suppress(CifarError):  # it was measured once; that has to do
                peak.flops += [] if interrupted else [ask("peak", threads, threads=threads)["flops"]]
        self._folder.cleanup()

    def peak_fraction(self, row: Row) -> float | None:
        """The share of the matrix peak at its threads that a row reaches; None where it is not known."""
        flop, peak = row.get("flop_per_image"), self.peaks.get(row["threads"])
        return row["images_per_second"] * flop / peak.best if flop and peak else None
