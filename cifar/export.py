"""From a finished run to model files: written aside, proven equal in their own runtimes, then moved into place."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar import networks
from cifar.data import augmentation
from cifar.data.dataset import Dataset
from cifar.errors import CifarError, StorageError, UsageError, first_line, last_line
from cifar.formats import FLOAT32_FORMATS, FORMATS, INPUT, OUTPUT, Source, manifest
from cifar.formats.manifest import ManifestEntry
from cifar.inference import prediction
from cifar.inference.prediction import InferenceError
from cifar.metrics import classification
from cifar.metrics.classification import Probabilities
from cifar.runs.keras_model import load_keras
from cifar.runs.run import Run
from cifar.system import environment, files
from cifar.system.child_process import run_in_subprocess

CALIBRATION = 500  # training images from which int8 takes its ranges
CALIBRATION_PURPOSE = 100  # of their random stream; epoch 0, which training does not have
MIN_AGREEMENT = 0.9999  # of top-1 classes with the Keras model
MAX_DIFFERENCE = 1e-4  # of any probability


class ParityError(CifarError):
    """An exported file does not answer as the Keras model does, or loses too much accuracy. Exit code 1."""


@dataclass(frozen=True)
class _Draft:
    """A file that is written and not yet proven."""

    run: Run
    format: str
    path: Path
    multiply_adds: int | None
    calibration: list[int] | None


def export_runs(
    runs: Sequence[Run],
    dataset: Dataset,
    formats: Sequence[str] = FLOAT32_FORMATS,
    to: Path | None = None,
    threads: int = 2,
    max_drop: float | None = None,
) -> list[ManifestEntry]:
    """Export finished runs.

    Args:
        runs: finished runs, all trained on `dataset`.
        dataset: its whole test set is asked of every file.
        formats: names in FORMATS.
        to: the folder; None for each run's own `exports/`.
        threads: for converting and checking.
        max_drop: points of test accuracy that a float16 or int8 file may lose; None for its format's own limit.

    Returns:
        The new lines of the manifests, in the order asked.

    Raises:
        ParityError: a file cannot be written, does not answer or differs; no file of its run has been moved, other
            runs' files have.
        UsageError: a run is not finished, or was trained on other data.
        StorageError: something could not be written.
    """
    lines, written, refused = [], [], []
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as made, files.folder_for(Path(made)) as scratch:
        for run in runs:
            try:
                written.append(list(_write(run, dataset, formats, scratch)))
            except ParityError as error:
                refused.append(str(error))
        answers: dict[Path, Probabilities | InferenceError] = {}
        for name in formats:
            paths = [draft.path for drafts in written for draft in drafts if draft.format == name]
            answers.update(zip(paths, prediction.answers(name, paths, dataset.x_test, threads), strict=True))
        for drafts in written:
            try:
                proven = [(draft, _check_parity(draft, answers[draft.path], max_drop)) for draft in drafts]
            except ParityError as error:
                refused.append(str(error))
                continue
            _install(proven, to or drafts[0].run.path / "exports")
            lines += [line for _, line in proven]
    if refused:
        raise ParityError(" ".join(refused))
    return lines


def file_metadata(run: Run, dataset: Dataset, precision: str) -> dict[str, str]:
    """What every exported file says of itself, the same keys in every format; values are text, nested ones JSON."""
    metrics = run.metrics
    return {
        "format_version": str(manifest.FORMAT_VERSION),
        "precision": precision,
        "class_names": json.dumps(dataset.class_names),
        "input": f"{INPUT}: uint8 (N, 32, 32, 3), RGB, 0 to 255",
        "output": f"{OUTPUT}: float32 (N, 10)",
        "network": run.recipe.network,
        "augment": run.recipe.policy.name,
        "seed": str(run.recipe.seed),
        "recipe": run.recipe.model_dump_json(),
        "weights_sha256": metrics.weights_sha256,
        "accuracy": json.dumps(metrics.accuracy),
        "dataset": dataset.name,
        "official": json.dumps(dataset.official),
        "data_sha256": dataset.sha256,
        "versions": json.dumps({name: metadata.version(name) for name in environment.PACKAGES}),
    }


def _write(run: Run, dataset: Dataset, formats: Sequence[str], scratch: Path) -> Iterator[_Draft]:
    """Write a run's files, each in a folder of its own."""
    if run.identity.data_sha256 != dataset.sha256:
        raise UsageError(
            f"{run.path} was trained on data {run.identity.data_sha256[:12]}, this is {dataset.sha256[:12]}."
        )
    model = load_keras(run)
    chosen = calibration(run.recipe.seed, len(dataset.head(run.recipe.train_images).x_train))
    for name in formats:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        path = folder / f"{run.path.name}{FORMATS[name].suffix}"
        precision = FORMATS[name].precision
        source = Source(model, file_metadata(run, dataset, precision), dataset.x_train[chosen])
        try:
            FORMATS[name].module.write(source, path)
        except OSError as error:
            raise StorageError.of(path, error) from error
        except Exception as error:  # a converter that cannot express a user's layer raises what it likes
            reason = last_line(str(error)) if isinstance(error, TypeError) else first_line(error)
            raise ParityError(f"{run.path} cannot be written as {name}: {reason}") from error
        indices = chosen.tolist() if precision == "int8" else None
        yield _Draft(run, name, path, networks.multiply_adds(model), indices)


def calibration(seed: int, n: int) -> NDArray[np.int64]:
    """Indices, ascending, of up to 500 of n training images, drawn without replacement from the run's seed."""
    drawn = augmentation.stream(seed, 0, CALIBRATION_PURPOSE).permutation(n)[:CALIBRATION]
    return np.sort(drawn)


def _check_parity(draft: _Draft, answers: Probabilities | InferenceError, max_drop: float | None) -> ManifestEntry:
    """Compare a file's answers with the Keras model's: equal, or, in a lower precision, accurate enough."""
    if isinstance(answers, InferenceError):
        raise ParityError(str(answers))
    form, metrics = FORMATS[draft.format], draft.run.metrics
    expected, labels = draft.run.predictions()
    agreement, difference = compare(expected, answers)
    accuracy = float((answers.argmax(axis=1) == labels).mean())
    if form.max_drop is None:
        sound = agreement >= MIN_AGREEMENT and difference <= MAX_DIFFERENCE
        reason = (
            f"{agreement:.2%} of the classes agree with the Keras model (at least {MIN_AGREEMENT:.2%}), "
            f"largest difference {difference:.1e} (at most {MAX_DIFFERENCE:.0e})."
        )
    else:
        allowed = form.max_drop if max_drop is None else max_drop
        drop = 100 * (metrics.accuracy - accuracy)
        finite = bool(np.isfinite(answers).all())
        sound = finite and drop <= allowed + 1e-9
        reason = f"it loses {drop:.2f} points of accuracy (at most {allowed:g}; --max-drop)."
        if not finite:
            reason = "it answers with what is not a number."
    if not sound:
        raise ParityError(f"{draft.path.name}: refused: {reason}")
    return ManifestEntry(
        file=draft.path.name,
        format=draft.format,
        precision=form.precision,
        bytes=files.size(draft.path),
        sha256=files.sha256(draft.path),
        network=metrics.network,
        augment=metrics.augment,
        seed=metrics.seed,
        weights_sha256=metrics.weights_sha256,
        dataset=metrics.dataset,
        official=metrics.official,
        parameters=metrics.parameters,
        data_sha256=draft.run.identity.data_sha256,
        accuracy=accuracy,
        n_test=len(labels),
        agreement=agreement,
        max_difference=difference,
        outputs_sha256=classification.sha256(answers),
        multiply_adds=draft.multiply_adds,
        calibration=draft.calibration,
        runtime=form.runtime,
        runtime_version=metadata.version(form.runtime),
    )


def compare(expected: Probabilities, answers: NDArray[np.float32]) -> tuple[float, float]:
    """Top-1 agreement and largest absolute difference of two sets of probabilities; NaN differs from everything."""
    if expected.shape != answers.shape:
        return 0.0, float("inf")
    difference = np.abs(expected.astype(np.float64) - answers).max()
    return float((expected.argmax(axis=1) == answers.argmax(axis=1)).mean()), float(difference)


def _install(proven: list[tuple[_Draft, ManifestEntry]], folder: Path) -> None:
    """Move files into place, each with its line in the folder's manifest.

    An earlier file's line goes before the file does, and the new one comes after: whatever a kill leaves, no line
    speaks of another file than it was written for.
    """
    for draft, line in proven:
        with manifest.locked_entries(folder) as lines:
            lines.pop(line.file, None)
            manifest.save(folder, lines)
            with files.atomic_replace(folder / line.file) as path:
                shutil.move(draft.path, path)
            lines[line.file] = line


def export_missing(finished: Sequence[Run], dataset: Dataset, threads: int) -> None:
    """Export every finished run that lacks one of the standard formats.

    Raises:
        ParityError: a file cannot be written or differs from the Keras model.
    """
    missing = [run for run in finished if not _exported(run)]
    if not missing:
        return
    if missing[0].recipe.backend == "tensorflow":
        export_runs(missing, dataset, threads=threads)
        return
    run_in_subprocess(_export_on_tensorflow, [run.path for run in missing], dataset, threads)


def _export_on_tensorflow(runs: Sequence[Path], dataset: Dataset, threads: int) -> None:
    """Export in a process of its own what another backend has trained in this one."""
    environment.configure(threads)
    export_runs([Run(path) for path in runs], dataset, threads=threads)


def _exported(run: Run) -> bool:
    """Whether a run's own exports hold all standard formats of its present weights."""
    folder = run.path / "exports"
    mine = manifest.of_weights(folder, run.metrics.weights_sha256)
    return {line.format for line in mine if (folder / line.file).exists()} >= set(FLOAT32_FORMATS)
