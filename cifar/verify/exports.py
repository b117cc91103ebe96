"""Two exports in two processes: the same weights, bit-equal answers on the whole test set, equal bytes."""

import tempfile
from pathlib import Path

from cifar import export
from cifar.data.dataset import Dataset
from cifar.formats import FORMATS, manifest
from cifar.formats.manifest import ManifestEntry
from cifar.runs.run import Run
from cifar.system import child_process, environment
from cifar.verify.result import CheckOptions, CheckResult

ANY_DROP = 100.0  # points: what int8 loses is not the question here


def check(run: Run, data: Dataset, options: CheckOptions) -> CheckResult:
    """Export a finished run in every format, twice, each time in a fresh process, and compare.

    Raises:
        UsageError: the run is not finished.
        cifar.export.ParityError: a format cannot be exported at all.
    """
    run.require_finished()
    with tempfile.TemporaryDirectory(prefix="cifar-verify-") as scratch:
        one, two = (Path(scratch, name) for name in ("one", "two"))
        for folder in (one, two):
            child_process.run_in_subprocess(_export, run.path, data, folder, options.threads)
        for left, right in zip(manifest.read(one), manifest.read(two), strict=True):
            difference = _difference(left, right)
            if difference:
                return CheckResult("different", f"{left.format}: {difference}")
    words = (
        f"{len(FORMATS)} formats, exported in two processes, have equal bytes "
        f"and give the same answers for {len(data.x_test):,} images, to the bit"
    )
    return CheckResult("equal", words)


def _export(path: Path, data: Dataset, folder: Path, threads: int) -> None:
    environment.configure(threads)
    export.export_runs([Run(path)], data, list(FORMATS), folder, threads, ANY_DROP)


def _difference(left: ManifestEntry, right: ManifestEntry) -> str | None:
    for name in ("weights_sha256", "outputs_sha256", "sha256"):
        if getattr(left, name) != getattr(right, name):
            return f"{name} is {getattr(left, name)[:16]}… in one process, {getattr(right, name)[:16]}… in the other"
    return None
