"""What must be true of a run folder after any fault, and what must be equal to the bit in the end."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cifar.formats import manifest
from cifar.metrics import classification
from cifar.runs.run import Run
from cifar.system import files

NAMES = {
    "recipe.json", "environment.json", "history.jsonl", "timing.jsonl", "checkpoint.npz", "diverged.json",
    "model.keras", "predictions.npz", "metrics.json", "exports", "figures",
}  # fmt: skip


def check(path: Path) -> None:
    """Assert that every file of a run folder with its final name is whole, and that the files agree."""
    assert {file.name for file in path.glob("[!.]*")} <= NAMES
    if not (path / "recipe.json").exists():
        assert not list(path.glob("[!.]*"))
        return
    run = Run(path)
    assert run.identity.recipe.sha256 == run.identity.recipe_sha256
    if (path / "environment.json").exists():
        assert run.environment["threads"] == run.recipe.threads
    for lines in (run.history, run.timing):
        assert [line.epoch for line in lines] == list(range(1, len(lines) + 1))
    if (path / "checkpoint.npz").exists():
        _check_checkpoint(path / "checkpoint.npz")
    if (path / "model.keras").exists():
        with zipfile.ZipFile(path / "model.keras") as archive:
            assert archive.testzip() is None
    if (path / "predictions.npz").exists():
        run.predictions()
    if run.finished:
        _check_results(run)
    check_exports(path / "exports")
    for figure in path.glob("figures/[!.]*"):
        with Image.open(figure) as image:
            image.load()


def _check_checkpoint(path: Path) -> None:
    with np.load(path) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    assert len(json.loads(str(values["progress"]))["history"]) > 0


def _check_results(run: Run) -> None:
    assert len(run.history) == run.recipe.epochs
    assert run.metrics.history_sha256 == files.sha256(run.path / "history.jsonl")
    assert run.metrics.probabilities_sha256 == classification.sha256(run.predictions()[0])
    assert (run.path / "model.keras").exists()


def check_exports(folder: Path) -> None:
    """Assert that every entry of a manifest has the digest of its file."""
    if (folder / manifest.NAME).exists():
        for entry in manifest.read(folder):
            assert files.sha256(folder / entry.file) == entry.sha256, entry.file


def trained(path: Path) -> dict[str, Any]:
    """Return what must be equal, to the bit, in every finished run of a recipe."""
    run = Run(path)
    probabilities, labels = run.predictions()
    return {
        "names": {file.name for file in path.iterdir() if file.is_file()},
        "weights": run.metrics.weights_sha256,
        "history": (path / "history.jsonl").read_bytes(),
        "predictions": (probabilities.tobytes(), labels.tobytes()),
    }


def outcome(path: Path) -> dict[str, Any]:
    """Return the same of an exported run, with the names of the exported files and the digests of their outputs."""
    return {
        **trained(path),
        "exported": {file.name for file in (path / "exports").iterdir()},
        "outputs": {entry.file: entry.outputs_sha256 for entry in manifest.read(path / "exports")},
    }
