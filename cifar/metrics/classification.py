"""Classification scores: accuracy, confusion matrix, calibration, and the choice of misclassified images."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar.metrics import statistics

CLASSES = 10
BATCH = 500  # images predicted at once; divides the size of both test sets
BINS = 15  # of the calibration error

Probabilities = NDArray[np.float32]
Labels = NDArray[np.uint8]
Predictor = Callable[[NDArray[np.uint8]], Probabilities]
"""A batch of uint8 images (N, 32, 32, 3) in; probabilities, float32 (N, 10), out."""


@dataclass(frozen=True)
class Scores:
    """The scores of predictions.

    Attributes:
        correct, n: images classified correctly, and all images.
        accuracy: correct / n.
        interval: 95 % Wilson interval of the accuracy.
        loss: mean categorical cross-entropy, in nats.
        per_class: accuracy on the images of each class, (10,).
        ece: expected calibration error of the top class.
        confusion: (10, 10) int64, counts by true class and predicted class.
    """

    correct: int
    n: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    per_class: tuple[float, ...]
    ece: float
    confusion: NDArray[np.int64]


def predict(
    predictor: Predictor,
    images: NDArray[np.uint8],
    batch: int = BATCH,
    advance: Callable[[int], None] = lambda _images: None,
) -> Probabilities:
    """Probabilities of all images, (N, 10), predicted batch by batch; the last batch may be smaller.

    Args:
        predictor: of a batch.
        images: uint8, (N, 32, 32, 3).
        batch: how many images at once.
        advance: is called with the number of images after each batch.
    """
    batches = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        batches.append(predictor(part))
        advance(len(part))
    probabilities = np.concatenate(batches).astype(np.float32, copy=False)
    assert probabilities.shape == (len(images), CLASSES), f"{probabilities.shape} for {len(images)} images"
    return probabilities


def sha256(probabilities: Probabilities) -> str:
    """SHA-256 of the bytes of probabilities, float32 (N, 10), in little-endian row order."""
    return hashlib.sha256(np.ascontiguousarray(probabilities, "<f4").data).hexdigest()


def pack_mask(correct_mask: NDArray[np.bool_]) -> str:
    """Pack which images are classified correctly, (N,) bool, into text: one bit each, in base64."""
    return base64.b64encode(np.packbits(correct_mask).tobytes()).decode()


def unpack_mask(packed: str, n: int) -> NDArray[np.bool_]:
    """Unpack the mask of n images that `pack_mask` packed, (n,) bool.

    Raises:
        ValueError: it is not such a text, or not of n images.
    """
    bits = np.unpackbits(np.frombuffer(base64.b64decode(packed, validate=True), np.uint8))
    if len(bits) != -(-n // 8) * 8:
        raise ValueError(f"{len(bits)} bits for {n} images")
    return bits[:n].astype(bool)


def score(probabilities: Probabilities, labels: Labels) -> Scores:
    """Score predictions, (N, 10), against labels, (N,)."""
    n = len(labels)
    assert probabilities.shape == (n, CLASSES), f"{probabilities.shape} for {n} labels"
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    assert confusion.sum() == n
    correct = int(confusion.trace())
    n_per_class = confusion.sum(axis=1)
    per_class = confusion.diagonal() / np.maximum(n_per_class, 1)
    return Scores(
        correct=correct,
        n=n,
        accuracy=correct / n,
        interval=statistics.proportion_interval(correct, n),
        loss=cross_entropy(probabilities, labels),
        per_class=tuple(per_class.tolist()),
        ece=calibration_error(probabilities, labels),
        confusion=confusion,
    )


def cross_entropy(probabilities: Probabilities, labels: Labels) -> float:
    """Mean of -log p(true class), with p clipped at 1e-7 as Keras does; rows sum to 1."""
    of_true_class = true_class_probability(probabilities, labels).astype(np.float64)
    return float(-np.log(np.clip(of_true_class, 1e-7, 1.0)).mean())


def calibration_error(probabilities: Probabilities, labels: Labels) -> float:
    """Expected calibration error of the top class over 15 equal bins (Guo et al. 2017, arXiv 1706.04599)."""
    confidence, is_correct, bins = _bins(probabilities, labels)
    gaps = np.bincount(bins, weights=is_correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


class Reliability(NamedTuple):
    """Images in 15 equal bins by the confidence of their top class: arrays of float64 (15,), 0 where a bin is empty.

    Attributes:
        confidence: its mean in the bin.
        accuracy: the share of the bin's images in their true class.
        counts: images in the bin.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.float64]


def reliability(probabilities: Probabilities, labels: Labels) -> Reliability:
    """Return how often the top class is right over how sure the network is of it.

    Args:
        probabilities: float32 (N, 10).
        labels: uint8 (N,).
    """
    confidence, is_correct, bins = _bins(probabilities, labels)
    counts = np.bincount(bins, minlength=BINS).astype(np.float64)
    sums = [np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, is_correct)]
    mean_confidence, accuracy = (values / np.maximum(counts, 1) for values in sums)
    return Reliability(mean_confidence, accuracy, counts)


def _bins(
    probabilities: Probabilities, labels: Labels
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return of each image the top class's confidence, whether it is right, and the number of the bin."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_correct = probabilities.argmax(axis=1) == labels
    return confidence, is_correct, np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def true_class_probability(probabilities: Probabilities, labels: Labels) -> NDArray[np.float32]:
    """The probability of each image's true class, (N,)."""
    return probabilities[np.arange(len(labels)), labels]
