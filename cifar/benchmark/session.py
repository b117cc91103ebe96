"""One session of the benchmark: what is measured, on which models, and how fast the machine is."""

import contextlib
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar.benchmark import jobs
from cifar.benchmark.grid import Case, Grid, TrainingCase
from cifar.benchmark.models import BenchmarkModel
from cifar.benchmark.worker import run_worker
from cifar.errors import CifarError

MAX_DRIFT = 0.10  # change of the matrix peak above which the machine is called unsteady

Row = dict[str, Any]
PeakKey = tuple[int, str]
"""Number of threads, and precision."""


class NotAvailableError(Exception):
    """A row cannot be measured on this machine: it is skipped."""


@dataclass
class Peak:
    """The matrix peak at some number of threads, in some precision.

    Attributes:
        library: whose matrix product it is.
        flops: FLOP/s, each time it was measured.
    """

    library: str
    flops: list[float]

    @property
    def best(self) -> float:
        """The largest."""
        return max(self.flops)

    @property
    def steady(self) -> bool:
        """Whether it changed by no more than a tenth during the session."""
        return min(self.flops) >= (1 - MAX_DRIFT) * self.best


@dataclass
class Session:
    """A session.

    Attributes:
        grid: how much is measured.
        models: by name.
        order_seed: of the order in which a worker measures its cases.
        inference, training: the cases that are measured.
        formats: those of which a file is needed.
        peaks: by number of threads and precision.
    """

    grid: Grid
    models: dict[str, BenchmarkModel]
    order_seed: int
    inference: Sequence[Case] = ()
    training: Sequence[TrainingCase] = ()
    formats: Collection[str] = ()
    peaks: dict[PeakKey, Peak] = field(default_factory=dict)
    _started: float = field(default_factory=time.perf_counter)
    _failures: dict[str, CifarError | None] = field(default_factory=dict)
    _folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="cifar-bench-")
    )

    @property
    def scratch(self) -> Path:
        """A folder that is removed with the session."""
        return Path(self._folder.name)

    def model(self, name: str) -> BenchmarkModel:
        """Return a model whose files are found or made.

        Raises:
            CifarError: they cannot be, each time the model is wanted.
        """
        model = self.models[name]
        if name not in self._failures:
            self._failures[name] = None
            try:
                model.prepare(self.scratch, self.formats)
            except CifarError as error:
                self._failures[name] = error
        failure = self._failures[name]
        if failure is not None:
            raise failure
        return model

    @property
    def thorough_models(self) -> list[str]:
        """The models whose predictions and cold starts are measured too."""
        return list(self.models)[: self.grid.thorough_models]

    @property
    def has_time(self) -> bool:
        """Whether what can be measured more often should be."""
        return time.perf_counter() - self._started < self.grid.session_seconds

    def measure_peak(self, threads: int, precisions: Sequence[str] = ("float32",)) -> None:
        """Measure the matrix peak at a number of threads in some precisions, unless that was done already."""
        missing = [precision for precision in precisions if (threads, precision) not in self.peaks]
        if missing:
            self._measure_peaks(threads, missing)

    def end(self, interrupted: bool) -> None:
        """Measure every peak once more, unless the user does not want to wait, and remove the scratch folder."""
        by_threads: dict[int, list[str]] = {}
        for threads, precision in self.peaks:
            by_threads.setdefault(threads, []).append(precision)
        for threads, precisions in by_threads.items():
            if not interrupted:
                with contextlib.suppress(CifarError):  # the first measurement must do
                    self._measure_peaks(threads, precisions)
        self._folder.cleanup()

    def _measure_peaks(self, threads: int, precisions: Sequence[str]) -> None:
        result = run_worker(jobs.matrix_peak, threads, threads=threads, precisions=precisions)
        for precision, flops in result["flops"].items():
            peak = self.peaks.setdefault((threads, precision), Peak(result["library"], []))
            peak.flops.append(flops)

    def peak_fraction(self, row: Row) -> float | None:
        """Return the share of the matrix peak at its threads that a row reaches; None where it is not known.

        A training in bfloat16 is compared with the peak in bfloat16, all else with that in float32.
        """
        precision = row["precision"] if row["kind"] == "training" else "float32"
        flop, peak = row.get("flop_per_image"), self.peaks.get((row["threads"], precision))
        if not flop or not peak:
            return None
        return float(row["images_per_second"] * flop / peak.best)
