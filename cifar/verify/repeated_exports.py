"""The check `exports`: two exports in two processes have the same weights, predictions and bytes."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from cifar import export
from cifar.data.dataset import Dataset
from cifar.formats import FORMATS, manifest
from cifar.formats.manifest import ManifestEntry
from cifar.runs.run import Run
from cifar.system import environment
from cifar.system.child_process import ChildProcess, exchange
from cifar.verify.check_result import CheckOptions, CheckResult

MAX_DROP = 100.0  # points of accuracy: what int8 loses is not checked here


def check(run: Run, data: Dataset, options: CheckOptions) -> CheckResult:
    """Export a finished run in every format, twice, each time in a fresh process, and compare.

    Raises:
        UsageError: the run is not finished.
        cifar.export.ParityError: a format cannot be exported at all.
    """
    run.require_finished()
    with tempfile.TemporaryDirectory(prefix="cifar-verify-") as scratch:
        first = Path(scratch, "first")
        second = Path(scratch, "second")
        steps = 2 * 2 * len(FORMATS)  # each file is written, then checked, in both processes
        with options.show_progress("Exporting twice", steps) as advance:
            for folder in (first, second):
                _export_in_subprocess(run, data, folder, options.threads, advance)
        for one, other in zip(manifest.read(first), manifest.read(second), strict=True):
            difference = _find_difference(one, other)
            if difference:
                return CheckResult("different", f"{one.format}: {difference}")
    message = (
        f"{len(FORMATS)} formats, exported in two processes, have equal bytes "
        f"and the same predictions for {len(data.x_test):,} images, to the bit"
    )
    return CheckResult("equal", message)


def _export_in_subprocess(run: Run, data: Dataset, folder: Path, threads: int, advance: Callable[[], None]) -> None:
    with ChildProcess(_export, run.path, data, folder, threads) as child:
        child.receive()
        while not child.finished:
            advance()
            child.resume()
            child.receive()


def _export(path: Path, data: Dataset, folder: Path, threads: int) -> None:
    """Export a run in every format: the function of the child process."""
    environment.configure(threads)
    formats = list(FORMATS)
    export.export_runs([Run(path)], data, formats, folder, threads, MAX_DROP, advance=lambda: exchange("step"))


def _find_difference(first: ManifestEntry, second: ManifestEntry) -> str | None:
    """Return a phrase about the first digest that differs, or None."""
    for name in ("weights_sha256", "outputs_sha256", "sha256"):
        first_digest = getattr(first, name)
        second_digest = getattr(second, name)
        if first_digest != second_digest:
            return f"{name} is {first_digest[:16]}… in one process, {second_digest[:16]}… in the other"
    return None
