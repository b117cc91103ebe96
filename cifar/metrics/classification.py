"""Scoring from predictions: accuracy, confusion, calibration, and the pictures that a network gets wrong."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar.errors import one_of
from cifar.metrics import statistics

CLASSES = 10
BATCH = 500  # images predicted at once; divides both test sets
BINS = 15  # of the calibration error

Probabilities = NDArray[np.float32]
Labels = NDArray[np.uint8]
Predictor = Callable[[NDArray[np.uint8]], Probabilities]
"""A batch of uint8 images (N, 32, 32, 3) in; probabilities, float32 (N, 10), out."""


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Attributes:
        correct, n: the count that accuracy is made of.
        accuracy: correct / n.
        interval: 95 % Wilson interval of the accuracy.
        loss: mean categorical cross-entropy, in nats.
        per_class: accuracy on the images of each class, (10,).
        ece: expected calibration error of the top class.
        confusion: int64, (true class, predicted class) counts.
    """

    correct: int
    n: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    per_class: tuple[float, ...]
    ece: float
    confusion: NDArray[np.int64]


def predict(predictor: Predictor, images: NDArray[np.uint8], batch: int = BATCH) -> Probabilities:
    """Probabilities of all images, (N, 10), batch by batch, none left out."""
    parts = [predictor(images[start : start + batch]) for start in range(0, len(images), batch)]
    probabilities = np.concatenate(parts).astype(np.float32, copy=False)
    assert probabilities.shape == (len(images), CLASSES), f"{probabilities.shape} for {len(images)} images"
    return probabilities


def sha256(probabilities: Probabilities) -> str:
    """SHA-256 of the bytes of probabilities, float32 (N, 10), in little-endian row order."""
    return hashlib.sha256(np.ascontiguousarray(probabilities, "<f4").data).hexdigest()


def pack_mask(correct_mask: NDArray[np.bool_]) -> str:
    """Which images were right, (N,) bool, as text: a bit each, first image first, in base64."""
    return base64.b64encode(np.packbits(correct_mask).tobytes()).decode()


def unpack_mask(packed: str, n: int) -> NDArray[np.bool_]:
    """The first n of what `pack_mask` packed.

    Raises:
        ValueError: it is not such a text, or too short.
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
    in_class = confusion.sum(axis=1)
    return Scores(
        correct=correct,
        n=n,
        accuracy=correct / n,
        interval=statistics.proportion_interval(correct, n),
        loss=cross_entropy(probabilities, labels),
        per_class=tuple(float(x) for x in confusion.diagonal() / np.maximum(in_class, 1)),
        ece=calibration_error(probabilities, labels),
        confusion=confusion,
    )


def cross_entropy(probabilities: Probabilities, labels: Labels) -> float:
    """Mean of -log p(true class), p clipped at 1e-7 as Keras clips it; rows sum to 1."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(true, 1e-7, 1.0)).mean())


def calibration_error(probabilities: Probabilities, labels: Labels) -> float:
    """Expected calibration error of the top class over 15 equal bins (Guo et al. 2017, arXiv 1706.04599)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    hit = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=hit - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _surprise(probabilities: Probabilities, labels: Labels) -> NDArray[np.float32]:
    return -probabilities[np.arange(len(labels)), labels]


def _margin(probabilities: Probabilities, _: Labels) -> NDArray[np.float32]:
    top = np.sort(probabilities, axis=1)
    return top[:, -2] - top[:, -1]


PICKS: dict[str, tuple[str, Callable[[Probabilities, Labels], NDArray[np.float32]]]] = {
    "confident": ("most confident first", lambda p, _: p.max(axis=1)),
    "surprising": ("least probability on the true class first", _surprise),
    "close": ("narrowest lead over the second class first", _margin),
    "first": ("in the order of the test set", lambda p, _: np.zeros(len(p), np.float32)),
}
"""Rules for choosing misclassified pictures: in words, and as a value per image, largest first."""


def misclassified(
    probabilities: Probabilities, labels: Labels, pick: str = "confident", n: int = 10
) -> NDArray[np.int64]:
    """Indices of the n misclassified images that a rule of PICKS puts first; ties in test set order.

    Raises:
        UsageError: unknown rule.
    """
    _, rule = PICKS[one_of("rule for --pick", pick, PICKS)]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    ranked = np.argsort(-rule(probabilities, labels)[wrong], kind="stable")
    return wrong[ranked[:n]]
