"""From finished runs to model files: written to a scratch folder, checked (`parity`), then moved into place."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar import networks
from cifar.data import augmentation
from cifar.data.dataset import Dataset
from cifar.errors import CifarError, StorageError, UsageError, first_line, last_line
from cifar.export.parity import CheckedFile, Draft, ParityError, Predictions, check_parity
from cifar.formats import (
    FLOAT32_FORMATS,
    FORMATS,
    INPUT,
    OUTPUT,
    Source,
    bias_correction,
    logits,
    manifest,
    origin,
    top1,
)
from cifar.formats.logits import Logits
from cifar.formats.manifest import ManifestEntry
from cifar.inference import isolated_prediction
from cifar.metrics.classification import Probabilities
from cifar.runs.loading import load_keras
from cifar.runs.run import Run
from cifar.system import environment, files
from cifar.system.child_process import run_in_subprocess

CALIBRATION_IMAGES = 500  # training images from which int8 takes its ranges
RANGE_IMAGES = 5000  # training images that choose the range of int8's logits
CALIBRATION_PURPOSE = 100  # of their random stream; epoch 0, which training does not have
METADATA_VERSION = "1"  # of the keys that every file carries


def export_runs(
    runs: Sequence[Run],
    dataset: Dataset,
    formats: Sequence[str] = FLOAT32_FORMATS,
    to: Path | None = None,
    threads: int = 2,
    max_drop: float | None = None,
    keep_float: Sequence[str] = (),
    advance: Callable[[], None] = lambda: None,
) -> list[ManifestEntry]:
    """Export finished runs.

    Args:
        runs: finished runs, all trained on `dataset`.
        dataset: every file predicts its whole test set.
        formats: names in FORMATS.
        to: the folder; None for each run's own `exports/`.
        threads: for converting and checking.
        max_drop: points of test accuracy that a float16 or int8 file may lose; None for its format's own limit.
        keep_float: layers that int8 leaves in float32, where the format can: named as the tensors of the file are.
        advance: is called twice per file: when it is written, and when it is checked.

    Returns:
        The new entries of the manifests, by run and format in the order given.

    Raises:
        ParityError: a file cannot be written, gives no predictions or differs; no file of its run has been moved,
            other runs' files have.
        UsageError: a run is not finished, or was trained on other data; `to` has files of another run of the same
            name; or a layer cannot be kept in float32.
        StorageError: something could not be written.
    """
    entries: list[ManifestEntry] = []
    refusals: list[str] = []
    if to is not None:
        _check_names(runs, to)
    if keep_float:
        _check_keep_float(formats)
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as name, files.folder_for(Path(name)) as scratch:
        written: list[list[Draft]] = []
        for run in runs:
            try:
                written.append(list(_write_run(run, dataset, formats, scratch, threads, keep_float, advance)))
            except ParityError as error:
                refusals.append(str(error))
        predictions = _predict(written, formats, dataset.x_test, threads, advance)
        for drafts in written:
            try:
                checked = check_parity(drafts, predictions, max_drop)
            except ParityError as error:
                refusals.append(str(error))
                continue
            entries += _install(checked, to)
    if refusals:
        raise ParityError(" ".join(refusals))
    return entries


def export_missing(
    runs: Sequence[Run], dataset: Dataset, threads: int, advance: Callable[[], None] = lambda: None
) -> None:
    """Export those of finished runs that `lacks_exports`; arguments and errors as of `export_runs`."""
    missing = list(filter(lacks_exports, runs))
    if not missing:
        return
    if missing[0].recipe.backend == "tensorflow":
        export_runs(missing, dataset, threads=threads, advance=advance)
        return
    # Another backend trained in this process; TensorFlow exports in one of its own.
    paths = [run.path for run in missing]
    run_in_subprocess(_export_on_tensorflow, paths, dataset, threads)


def lacks_exports(run: Run) -> bool:
    """Whether a finished run's own exports lack one of the float32 formats of its present weights."""
    folder = run.path / "exports"
    formats = set()
    for entry in manifest.of_weights(folder, run.metrics.weights_sha256):
        if (folder / entry.file).exists():
            formats.add(entry.format)
    return not formats.issuperset(FLOAT32_FORMATS)


def file_metadata(run: Run, dataset: Dataset, precision: str) -> dict[str, str]:
    """Return what every exported file says of itself, the same keys in every format; nested values are JSON."""
    metrics = run.metrics
    versions = {name: metadata.version(name) for name in environment.PACKAGES}
    return {
        "format_version": METADATA_VERSION,
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
        "versions": json.dumps(versions),
    }


def calibration_indices(seed: int, n: int, count: int = CALIBRATION_IMAGES) -> NDArray[np.int64]:
    """Return indices, ascending, of up to `count` of n training images, drawn without replacement by a run's seed."""
    drawn = augmentation.stream(seed, 0, CALIBRATION_PURPOSE).permutation(n)[:count]
    return np.sort(drawn)


def _write_run(
    run: Run,
    dataset: Dataset,
    formats: Sequence[str],
    scratch: Path,
    threads: int,
    keep_float: Sequence[str],
    advance: Callable[[], None],
) -> Iterator[Draft]:
    """Write a run's files, each into a folder of its own."""
    if run.identity.data_sha256 != dataset.sha256:
        raise UsageError(
            f"{run.path} was trained on data {run.identity.data_sha256[:12]}, this is {dataset.sha256[:12]}."
        )
    model = load_keras(run)
    multiply_adds = networks.multiply_adds(model)
    train_images = dataset.head(run.recipe.train_images).x_train
    indices = calibration_indices(run.recipe.seed, len(train_images))
    range_images = train_images[calibration_indices(run.recipe.seed, len(train_images), RANGE_IMAGES)]
    has_int8 = any(FORMATS[name].precision == "int8" for name in formats)
    centred = logits.centred(model, range_images) if has_int8 else None
    if isinstance(centred, Logits):
        corrected = bias_correction.with_corrected_biases(centred.model, train_images[indices], keep_float)
        centred = replace(centred, model=corrected)
        if centred.layer in keep_float:
            centred = replace(centred, range=None)  # they are not quantised
    for name in formats:
        format_ = FORMATS[name]
        path = Path(tempfile.mkdtemp(dir=scratch), f"{run.path.name}{format_.suffix}")
        source = Source(model, file_metadata(run, dataset, format_.precision), train_images[indices])
        if format_.precision == "int8":
            source = replace(source, logits=centred, keep_float=keep_float)
            source = _without_mean_error(name, source, path, run, range_images, threads)
        _write_file(name, source, path, run)
        advance()
        yield Draft(run, name, path, multiply_adds, indices.tolist(), source.logits, source.keep_float)


def _without_mean_error(
    name: str, source: Source, path: Path, run: Run, images: NDArray[np.uint8], threads: int
) -> Source:
    """Write a file that gives the logits, and correct the bias by what it gives in its own runtime."""
    if not isinstance(source.logits, Logits):
        return source
    draft = path.with_name(f"logits{FORMATS[name].suffix}")
    _write_file(name, replace(source, logits=replace(source.logits, softmax=False)), draft, run)
    quantized = isolated_prediction.predict_file(name, draft, images, threads)
    return replace(source, logits=logits.without_mean_error(source.logits, quantized))


def _write_file(name: str, source: Source, path: Path, run: Run) -> None:
    try:
        FORMATS[name].module.write(source, path)
    except OSError as error:
        raise StorageError.of(path, error) from error
    except UsageError:
        raise
    except TypeError as error:  # Keras puts the reason on the last line
        raise ParityError(f"{run.path} cannot be written as {name}: {last_line(str(error))}") from error
    except Exception as error:  # a converter that cannot express a user's layer raises what it likes
        raise ParityError(f"{run.path} cannot be written as {name}: {first_line(error)}") from error


def _predict(
    written: Sequence[Sequence[Draft]],
    formats: Sequence[str],
    images: NDArray[np.uint8],
    threads: int,
    advance: Callable[[], None],
) -> Predictions:
    """Run all files in their own runtimes: one process per format."""
    predictions: dict[Path, Probabilities | CifarError] = {}
    for name in formats:
        paths = [draft.path for drafts in written for draft in drafts if draft.format == name]
        results = isolated_prediction.predict_in_subprocess(name, paths, images, threads)
        for path, result in zip(paths, results, strict=True):
            predictions[path] = result
            advance()
    return predictions


def _check_names(runs: Sequence[Run], to: Path) -> None:
    """Raise UsageError where a folder has files of another run of the same name, or would get them."""
    weights_by_name: dict[str, str] = {}
    for run in runs:
        weights = run.metrics.weights_sha256
        if weights_by_name.setdefault(run.path.name, weights) != weights:
            raise UsageError(f"There are two runs of the name {run.path.name}: export them to different folders.")
        _check_weights(run, to, manifest.read_if_present(to))


def _check_keep_float(formats: Sequence[str]) -> None:
    """Raise UsageError unless every int8 format can keep a layer in float32, and there is one."""
    able = [name for name, format_ in FORMATS.items() if format_.can_keep_float]
    int8 = [name for name in formats if FORMATS[name].precision == "int8"]
    if not int8 or not set(int8).issubset(able):
        raise UsageError(
            f"--keep-float works with --format {', '.join(able)}, no other int8 format; here: {', '.join(formats)}."
        )


def _check_weights(run: Run, to: Path, entries: Iterable[ManifestEntry]) -> None:
    """Raise UsageError if a folder has a file of a run's name, in any format, of other weights."""
    names = {f"{run.path.name}{format_.suffix}" for format_ in FORMATS.values()}
    for entry in entries:
        path = to / entry.file
        if entry.file in names and entry.weights_sha256 != run.metrics.weights_sha256 and path.exists():
            raise UsageError(f"{path} is of other weights than {run.path}: delete it or choose another folder.")


def _install(checked: Sequence[CheckedFile], to: Path | None) -> list[ManifestEntry]:
    """Move a run's files into place, each with its entry in the folder's manifest: to its own exports/, or `to`.

    The entry of an earlier file is removed before the file is replaced, and the new one is added after: whatever a
    kill leaves, no entry describes another file than the one it was written for.

    Returns:
        The entries, with the digest of what each file says of every test image.
    """
    installed = []
    for file in checked:
        draft, entry = file.draft, file.entry
        folder = to or draft.run.path / "exports"
        with manifest.locked_entries(folder) as entries:
            if to is not None:  # another process may have written there meanwhile
                _check_weights(draft.run, to, entries.values())
            entries.pop(entry.file, None)
            manifest.save(folder, entries)
            with files.atomic_replace(folder / entry.file) as path:
                shutil.move(draft.path, path)
            digest = top1.write(folder / entry.file, file.top1)
            entries[entry.file] = entry.model_copy(update={"top1_sha256": digest})
        installed.append(entries[entry.file])
        if entry.format == origin.PROGRAM:
            origin.remember(entry.sha256)
    return installed


def _export_on_tensorflow(paths: Sequence[Path], dataset: Dataset, threads: int) -> None:
    """In a child process: export runs that another backend trained."""
    environment.configure(threads)
    export_runs(list(map(Run, paths)), dataset, threads=threads)
