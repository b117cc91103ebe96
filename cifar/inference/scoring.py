"""Scoring a model file of anybody's: its answers, made in a process of their own, against the data's labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cifar.data.dataset import Dataset
from cifar.errors import UsageError, one_of
from cifar.formats import manifest
from cifar.formats.manifest import ManifestEntry
from cifar.inference import prediction
from cifar.inference.external import RANGES, Preprocessing, PreprocessingNeededError, format_of
from cifar.inference.prediction import InferenceError
from cifar.metrics.classification import CLASSES, Probabilities

TRIAL = 500  # training images on which readings are tried: the test set chooses nothing
LIMIT = 900.0  # seconds for a file
SUMS = 0.05  # by which rows of probabilities may miss 1: int8 counts in steps of 1/256


@dataclass(frozen=True)
class Scored:
    """A file's answers for the whole test set.

    Attributes:
        format: in FORMATS, by whose runtime it was run.
        line: of the manifest that vouches for it; None if none does.
        outputs: what it gives; logits went through a softmax.
        probabilities: float32 (N, 10), in the data's class order.
    """

    format: str
    line: ManifestEntry | None
    outputs: Literal["probabilities", "logits"]
    probabilities: Probabilities


def score(
    path: Path, data: Dataset, preprocessing: Preprocessing, order: Sequence[str] | None, threads: int
) -> Scored:
    """Let a model file answer for the whole test set.

    Args:
        path: .onnx, .tflite or a SavedModel folder.
        data: its test set is asked.
        preprocessing: how the file scales pixels; an empty one for what the file says.
        order: the classes in the order of its output; None for the data's.
        threads: for its runtime.

    Raises:
        PreprocessingNeededError: the file does not say how it scales pixels.
        UsageError: it is not such a file, or not the one that its manifest describes.
        InferenceError: its runtime refused it, or what it answers does not fit.
    """
    name, line = format_of(path), manifest.verify_checksum(path)
    columns = columns_of(order, data.class_names)
    raw = _answers(name, path, data.x_test, preprocessing, threads)
    outputs, probabilities = as_probabilities(raw)
    return Scored(name, line, outputs, np.ascontiguousarray(probabilities[:, columns]))


def check(path: Path, data: Dataset | None, preprocessing: Preprocessing, order: Sequence[str] | None) -> None:
    """Let a model file answer for one picture.

    Raises:
        UsageError: it cannot be read so; if the file does not say how it scales pixels, what each preprocessing gives on
            `data`, where that is at hand, is told.
        InferenceError: its runtime refused it.
    """
    if data is not None:
        columns_of(order, data.class_names)
    try:
        _answers(format_of(path), path, np.zeros((1, 32, 32, 3), np.uint8), preprocessing, 1)
    except PreprocessingNeededError as error:
        raise with_trials(error, path, data, order) from error


def with_trials(
    error: PreprocessingNeededError, path: Path, data: Dataset | None, order: Sequence[str] | None
) -> PreprocessingNeededError:
    """The error with the accuracy of each preprocessing of RANGES on the first 500 training images, to choose from."""
    words = f"{error} Say it with --input-range, or --mean and --std."
    if data is not None:
        name, columns = format_of(path), columns_of(order, data.class_names)
        images, labels = data.x_train[:TRIAL], data.y_train[:TRIAL]
        tried = []
        for preprocessing in map(Preprocessing, RANGES):
            raw = _answers(name, path, images, preprocessing, 1)
            tried.append(f"{preprocessing}: {(raw[:, columns].argmax(axis=1) == labels).mean():.1%}")
        words += f" Accuracy on {TRIAL} training images: {', '.join(tried)}."
    return PreprocessingNeededError(words)


def as_probabilities(raw: NDArray[np.float32]) -> tuple[Literal["probabilities", "logits"], Probabilities]:
    """Tell probabilities from logits, float32 (N, 10), by their sums; logits go through a softmax.

    Raises:
        InferenceError: some are not numbers.
    """
    if not np.isfinite(raw).all():
        raise InferenceError("It answers with what is not a number.")
    if raw.min() >= 0 and np.abs(raw.sum(axis=1, dtype=np.float64) - 1).max() <= SUMS:
        return "probabilities", raw
    powers = np.exp(raw.astype(np.float64) - raw.max(axis=1, keepdims=True))
    return "logits", (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def class_order(text: str) -> list[str]:
    """The classes that `--labels` names: separated by commas, or the lines of a file.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        lines = text.split(",") if "," in text else Path(text).read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--labels {text}: neither ten names with commas nor a file of ten lines.") from error
    return [line.strip() for line in lines if line.strip()]


def parse_preprocessing(input_range: str | None, mean: str | None, std: str | None) -> Preprocessing:
    """How a user says that a model scales pixels.

    Raises:
        UsageError: an unknown range, not three numbers, or both ways at once.
    """
    if input_range is not None:
        if mean or std:
            raise UsageError("--input-range goes without --mean and --std.")
        return Preprocessing(one_of("range for --input-range", input_range, RANGES))
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std go together.")
    if mean is None or std is None:
        return Preprocessing()
    return Preprocessing(None, _three("--mean", mean), _three("--std", std))


def _three(option: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(abs(value) < 1e6 for value in values) or (option == "--std" and 0 in values):
        raise UsageError(f"{option} {text}: expected three numbers with commas, such as 0.49,0.48,0.45.")
    return values


def columns_of(order: Sequence[str] | None, names: Sequence[str]) -> list[int]:
    """Which column of a file's output is which class of the data; `order` is the columns', None if the data's own.

    Raises:
        UsageError: it does not name the data's classes.
    """
    if order is None:
        return list(range(CLASSES))
    if sorted(order) != sorted(names):
        raise UsageError(f"--labels: expected {', '.join(names)} in some order, found {', '.join(order)}.")
    return [order.index(name) for name in names]


def _answers(
    name: str, path: Path, images: NDArray[np.uint8], preprocessing: Preprocessing, threads: int
) -> NDArray[np.float32]:
    """The raw outputs that a file gives in a process of its own; what does not fit there is an error here."""
    try:
        return prediction.answer(name, [path], images, threads, LIMIT, preprocessing)[0]
    except InferenceError as error:
        for kind in (PreprocessingNeededError, UsageError):
            _, found, words = str(error).partition(f": {kind.__name__}: ")
            if found:
                raise kind(f"{path}: {words}") from error
        raise
