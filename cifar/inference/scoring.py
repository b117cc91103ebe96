"""Scoring a model file on the test set of a data set: ours or an external one, run in a process of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.formats import manifest
from cifar.formats.manifest import ManifestEntry
from cifar.inference.external import format_of
from cifar.inference.isolated_prediction import InferenceError, predict_file
from cifar.inference.preprocessing import RANGES, Preprocessing, PreprocessingNeededError
from cifar.metrics.classification import CLASSES, Probabilities
from cifar.metrics.views import split_views, stack_views

TRIAL_IMAGES = 500  # training images on which input ranges are tried: the test set chooses nothing
TIME_LIMIT = 900.0  # seconds for a file
SUM_TOLERANCE = 0.05  # by which rows of probabilities may miss 1: int8 counts in steps of 1/256

OutputKind = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class ScoredFile:
    """The predictions of a file for the whole test set.

    Attributes:
        format: in FORMATS, by whose runtime it was run.
        entry: of the manifest beside it, whose checksum the file has; None if there is none.
        outputs: what the file gives; logits went through a softmax.
        probabilities: float32 (N, 10), in the data's class order.
        augmented: the same with test-time augmentation; None if none was wanted.
    """

    format: str
    entry: ManifestEntry | None
    outputs: OutputKind
    probabilities: Probabilities
    augmented: Probabilities | None = None


def score_file(
    path: Path,
    data: Dataset,
    preprocessing: Preprocessing,
    class_order: Sequence[str] | None,
    threads: int,
    advance: Callable[[int], None] = lambda _images: None,
    test_time_augmentation: str | None = None,
    runtime: str | None = None,
) -> ScoredFile:
    """Run a model file on the whole test set.

    Args:
        path: .onnx, .tflite or a SavedModel folder.
        data: with the test set.
        preprocessing: how the file scales pixels; an empty one for what the file says.
        class_order: the classes in the order of its output; None for the data's.
        threads: for its runtime.
        advance: is called with the number of images after each batch.
        test_time_augmentation: a name of TEST_TIME_AUGMENTATIONS, whose views of the test images are predicted too.
        runtime: a key of RUNTIMES; None for the format's own.

    Raises:
        PreprocessingNeededError: the file does not say how it scales pixels.
        UsageError: it is not such a file, or not the one that its manifest describes.
        InferenceError: its runtime refused it, or its output does not fit.
    """
    format_name, entry = format_of(path), manifest.verify_checksum(path)
    columns = output_columns(class_order, data.class_names)
    images = stack_views(data.x_test, test_time_augmentation)
    raw = predict_file(format_name, path, images, threads, TIME_LIMIT, preprocessing, advance, runtime)
    outputs, in_file_order = as_probabilities(raw)
    of_views = np.ascontiguousarray(in_file_order[:, columns])
    probabilities, augmented = split_views(of_views, test_time_augmentation)
    return ScoredFile(format_name, entry, outputs, probabilities, augmented)


def require_usable(
    path: Path, data: Dataset | None, preprocessing: Preprocessing, class_order: Sequence[str] | None
) -> None:
    """Run a model file on one image.

    Raises:
        UsageError: it does not fit; if it does not say how it scales pixels, the message tells what each range gives
            on `data`, where that is on this machine.
        InferenceError: its runtime refused it.
    """
    if data is not None:
        output_columns(class_order, data.class_names)
    try:
        predict_file(format_of(path), path, np.zeros((1, 32, 32, 3), np.uint8), 1, TIME_LIMIT, preprocessing)
    except PreprocessingNeededError as error:
        raise suggest_ranges(error, path, data, class_order) from error


def suggest_ranges(
    error: PreprocessingNeededError, path: Path, data: Dataset | None, class_order: Sequence[str] | None
) -> PreprocessingNeededError:
    """Return the error with the accuracy of each range on the first 500 training images, to choose from."""
    message = f"{error} Say it with --input-range, or --mean and --std."
    if data is None:
        return PreprocessingNeededError(message)
    columns = output_columns(class_order, data.class_names)
    images, labels = data.x_train[:TRIAL_IMAGES], data.y_train[:TRIAL_IMAGES]
    trials = []
    for name in RANGES:
        preprocessing = Preprocessing(name)
        raw = predict_file(format_of(path), path, images, 1, TIME_LIMIT, preprocessing)
        accuracy = (raw[:, columns].argmax(axis=1) == labels).mean()
        trials.append(f"{preprocessing}: {accuracy:.1%}")
    return PreprocessingNeededError(f"{message} Accuracy on {TRIAL_IMAGES} training images: {', '.join(trials)}.")


def as_probabilities(raw: NDArray[np.float32]) -> tuple[OutputKind, Probabilities]:
    """Tell probabilities from logits, float32 (N, 10), by their sums; logits go through a softmax.

    Raises:
        InferenceError: some are NaN or infinite.
    """
    if not np.isfinite(raw).all():
        raise InferenceError("Its outputs contain NaN or infinity: not a number that can be scored.")
    sums = raw.sum(axis=1, dtype=np.float64)
    if raw.min() >= 0 and np.abs(sums - 1).max() <= SUM_TOLERANCE:
        return "probabilities", raw
    powers = np.exp(raw.astype(np.float64) - raw.max(axis=1, keepdims=True))
    return "logits", (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def parse_class_order(text: str) -> list[str]:
    """Return the classes that `--labels` names: separated by commas, or the lines of a file.

    Raises:
        UsageError: the file cannot be read.
    """
    if "," in text:
        names = text.split(",")
    else:
        try:
            names = Path(text).read_text().splitlines()
        except (OSError, ValueError) as error:
            raise UsageError(f"--labels {text}: neither ten names with commas nor a file of ten lines.") from error
    stripped = map(str.strip, names)
    return list(filter(None, stripped))


def output_columns(class_order: Sequence[str] | None, names: Sequence[str]) -> list[int]:
    """Return which column of a file's output is which class of the data.

    Args:
        class_order: of the columns; None if it is the data's.
        names: the classes of the data.

    Raises:
        UsageError: it does not name the data's classes.
    """
    if class_order is None:
        return list(range(CLASSES))
    if sorted(class_order) != sorted(names):
        raise UsageError(f"--labels: expected {', '.join(names)} in some order, found {', '.join(class_order)}.")
    return list(map(list(class_order).index, names))
