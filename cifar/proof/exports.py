"""Two exports in two processes: the same weights, bit-equal answers on the whole test set, equal bytes."""

import tempfile
from pathlib import Path

from cifar import environment, exporting, fresh, manifest
from cifar.dataset import Dataset
from cifar.formats import FORMATS
from cifar.manifest import Line
from cifar.proof.finding import Asked, Finding
from cifar.run import Run

ANY_DROP = 100.0  # points: what int8 loses is not the question here


def check(run: Run, data: Dataset, asked: Asked) -> Finding:
    """Export a finished run in every format, twice, each time in a fresh process, and compare.

    Raises:
        UsageError: the run is not finished.
        cifar.exporting.ParityError: a format cannot be exported at all.
    """
    run.metrics  # noqa: B018 - fails here if the run is not finished
    with tempfile.TemporaryDirectory(prefix="cifar-verify-") as scratch:
        one, two = (Path(scratch, name) for name in ("one", "two"))
        for folder in (one, two):
            fresh.call(_export, run.path, data, folder, asked.threads)
        for left, right in zip(manifest.read(one), manifest.read(two), strict=True):
            difference = _difference(left, right)
            if difference:
                return Finding("different", f"{left.format}: {difference}")
    words = (
        f"{len(FORMATS)} formats, exported in two processes, have equal bytes "
        f"and give the same answers for {len(data.x_test):,} images, to the bit"
    )
    return Finding("equal", words)


def _export(path: Path, data: Dataset, folder: Path, threads: int) -> None:
    environment.configure(threads)
    exporting.export([Run(path)], data, list(FORMATS), folder, threads, ANY_DROP)


def _difference(left: Line, right: Line) -> str | None:
    for name in ("weights_sha256", "outputs_sha256", "sha256"):
        if getattr(left, name) != getattr(right, name):
            return f"{name} is {getattr(left, name)[:16]}… in one process, {getattr(right, name)[:16]}… in the other"
    return None
