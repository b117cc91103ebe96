"""From a finished run to model files: written aside, proven equal in their own runtimes, then moved into place."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cifar import environment, files, networks
from cifar.dataset import Dataset
from cifar.errors import CifarError, UsageError
from cifar.evaluation import Probabilities
from cifar.formats import FORMATS, INPUT, OUTPUT
from cifar.records import read_json
from cifar.run import Run, lock

FORMAT_VERSION = 1
LEAST_AGREEMENT = 0.9999  # of top-1 classes with the Keras model
LARGEST_DIFFERENCE = 1e-4  # of any probability


class Line(BaseModel):
    """A line of manifest.json: one exported file and the proof that it equals the Keras model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    format: str
    precision: Literal["float32"] = "float32"
    bytes: int
    sha256: str
    network: str
    augment: str
    seed: int
    weights_sha256: str
    dataset: str
    official: bool | None
    data_sha256: str
    accuracy: float
    n_test: int
    agreement: float
    largest_difference: float
    outputs_sha256: str
    runtime: str
    runtime_version: str


class ParityError(CifarError):
    """An exported file does not answer as the Keras model does. Exit code 1."""


@dataclass(frozen=True)
class _Draft:
    """A file that is written and not yet proven."""

    run: Run
    format: str
    path: Path
    answers: Path


def export(
    runs: Sequence[Run],
    dataset: Dataset,
    formats: Iterable[str] = FORMATS,
    to: Path | None = None,
    threads: int = 2,
) -> list[Line]:
    """Export finished runs.

    Args:
        runs: finished runs, all trained on `dataset`.
        dataset: its whole test set is asked of every file.
        formats: names in FORMATS.
        to: the folder; None for each run's own `exports/`.
        threads: for converting and checking.

    Returns:
        The new lines of the manifests, in the order asked.

    Raises:
        ParityError: a file differs; no file of its run has been moved, other runs' files have.
        UsageError: a run is not finished, or was trained on other data.
        StorageError: something could not be written.
    """
    lines, refused = [], []
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as temporary:
        scratch = Path(temporary)
        images = scratch / "images.npy"
        np.save(images, dataset.x_test)
        drafts = [draft for run in runs for draft in _write(run, dataset, formats, scratch)]
        for name in formats:
            _answer(name, [draft for draft in drafts if draft.format == name], images, threads)
        for run in runs:
            mine = [draft for draft in drafts if draft.run is run]
            try:
                proven = [(draft, _prove(draft)) for draft in mine]
            except ParityError as error:
                refused.append(str(error))
                continue
            _install(proven, to or run.path / "exports")
            lines += [line for _, line in proven]
    if refused:
        raise ParityError("\n".join(refused))
    return lines


def file_metadata(run: Run, dataset: Dataset) -> dict[str, str]:
    """What every exported file says of itself, the same keys in every format; values are text, nested ones JSON."""
    metrics = run.metrics
    return {
        "format_version": str(FORMAT_VERSION),
        "class_names": json.dumps(dataset.class_names),
        "input": f"{INPUT}: uint8 (N, 32, 32, 3), RGB, 0 to 255",
        "output": f"{OUTPUT}: float32 (N, 10)",
        "network": run.recipe.network,
        "augment": run.recipe.policy.name,
        "seed": str(run.recipe.seed),
        "recipe": run.recipe.model_dump_json(),
        "weights_sha256": metrics["weights_sha256"],
        "accuracy": json.dumps(metrics["accuracy"]),
        "dataset": dataset.name,
        "official": json.dumps(dataset.official),
        "data_sha256": dataset.sha256,
        "versions": json.dumps({name: metadata.version(name) for name in environment.PACKAGES}),
    }


def load_keras(run: Run) -> Any:
    """Build a run's network and fill it with the weights of its model.keras; nothing else of the file is trusted.

    Raises:
        UsageError: the network is no longer the one that was trained, the file is damaged, or its weights are not
            those that were scored.
    """
    path = run.path / "model.keras"
    model = networks.build_afresh(run.recipe.network)
    if networks.architecture_sha256(model) != run.identity.network_sha256:
        raise UsageError(f"{run.path}: the network '{run.recipe.network}' is no longer the one that was trained.")
    try:
        model.load_weights(path)
    except Exception as error:  # a damaged zip raises many kinds
        raise UsageError(f"{path}: cannot be loaded: {str(error).splitlines()[0]}") from error
    if networks.weights_sha256(model) != run.metrics["weights_sha256"]:
        raise UsageError(f"{path}: its weights are not those that metrics.json scored.")
    return model


def _write(run: Run, dataset: Dataset, formats: Iterable[str], scratch: Path) -> Iterator[_Draft]:
    """Write a run's files, each in a folder of its own."""
    if run.identity.data_sha256 != dataset.sha256:
        raise UsageError(
            f"{run.path} was trained on data {run.identity.data_sha256[:12]}, this is {dataset.sha256[:12]}."
        )
    facts = file_metadata(run, dataset)
    model = load_keras(run)
    for name in formats:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        path = folder / f"{run.path.name}{FORMATS[name].suffix}"
        with files.folder_for(folder):
            FORMATS[name].room.write(model, path, facts)
        yield _Draft(run, name, path, folder / "answers.npy")


def _answer(name: str, drafts: list[_Draft], images: Path, threads: int) -> None:
    """Let a fresh process with the format's own runtime answer for all files of a format."""
    if not drafts:
        return
    pairs = [str(path) for draft in drafts for path in (draft.path, draft.answers)]
    command = [sys.executable, "-m", "cifar.formats", name, str(threads), str(images), *pairs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ParityError(f"{FORMATS[name].runtime} cannot run the exported {name} files: {last[0]}")


def _prove(draft: _Draft) -> Line:
    """Compare a file's answers with the Keras model's."""
    expected, labels = draft.run.predictions()
    answers: Probabilities = np.load(draft.answers)
    agreement, difference = compare(expected, answers)
    if not (agreement >= LEAST_AGREEMENT and difference <= LARGEST_DIFFERENCE):
        raise ParityError(
            f"{draft.path.name}: refused: {agreement:.2%} of the classes agree with the Keras model (at least "
            f"{LEAST_AGREEMENT:.2%}), largest difference {difference:.1e} (at most {LARGEST_DIFFERENCE:.0e})."
        )
    metrics = draft.run.metrics
    runtime = FORMATS[draft.format].runtime
    return Line(
        file=draft.path.name,
        format=draft.format,
        bytes=files.size(draft.path),
        sha256=files.sha256(draft.path),
        **{key: metrics[key] for key in ("network", "augment", "seed", "weights_sha256", "dataset", "official")},
        data_sha256=draft.run.identity.data_sha256,
        accuracy=float((answers.argmax(axis=1) == labels).mean()),
        n_test=len(labels),
        agreement=agreement,
        largest_difference=difference,
        outputs_sha256=hashlib.sha256(answers.tobytes()).hexdigest(),
        runtime=runtime,
        runtime_version=metadata.version(runtime),
    )


def compare(expected: Probabilities, answers: NDArray[np.float32]) -> tuple[float, float]:
    """Top-1 agreement and largest absolute difference of two sets of probabilities; NaN differs from everything."""
    if expected.shape != answers.shape:
        return 0.0, float("inf")
    difference = np.abs(expected.astype(np.float64) - answers).max()
    return float((expected.argmax(axis=1) == answers.argmax(axis=1)).mean()), float(difference)


def _install(proven: list[tuple[_Draft, Line]], folder: Path) -> None:
    """Move files into place, each beside its new line in the folder's manifest."""
    with _manifest(folder) as lines:
        for draft, line in proven:
            with files.aside(folder / line.file) as path:
                shutil.move(draft.path, path)
            lines[line.file] = line


@contextmanager
def _manifest(folder: Path) -> Iterator[dict[str, Line]]:
    """A folder's manifest by file name, written back when the block ends; held against other processes."""
    path = folder / "manifest.json"
    with files.folder_for(folder), lock(folder, patience=60):
        files.clear_leftovers(folder)
        lines = {line.file: line for line in read_manifest(folder)} if path.exists() else {}
        yield lines
        models = [lines[name].model_dump() for name in sorted(lines)]
        files.write(path, json.dumps({"format_version": FORMAT_VERSION, "models": models}, indent=2) + "\n")


def read_manifest(folder: Path) -> list[Line]:
    """The lines of a folder's manifest.json.

    Raises:
        UsageError: it is not there, not ours, or of another format version.
    """
    content = read_json(folder / "manifest.json")
    if content.get("format_version") != FORMAT_VERSION:
        raise UsageError(
            f"{folder / 'manifest.json'}: format_version is {content.get('format_version')!r}, "
            f"this program reads {FORMAT_VERSION}."
        )
    try:
        return [Line.model_validate(line) for line in content["models"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{folder / 'manifest.json'}: not a manifest of ours.") from error
