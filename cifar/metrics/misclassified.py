"""Choosing the misclassified images to show."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cifar.errors import one_of
from cifar.metrics.classification import Labels, Probabilities, true_class_probability


def _confidence(probabilities: Probabilities, _: Labels) -> NDArray[np.float32]:
    confidence: NDArray[np.float32] = probabilities.max(axis=1)
    return confidence


def _surprise(probabilities: Probabilities, labels: Labels) -> NDArray[np.float32]:
    return -true_class_probability(probabilities, labels)


def _closeness(probabilities: Probabilities, _: Labels) -> NDArray[np.float32]:
    ascending = np.sort(probabilities, axis=1)
    return ascending[:, -2] - ascending[:, -1]


def _same_for_all(probabilities: Probabilities, _: Labels) -> NDArray[np.float32]:
    return np.zeros(len(probabilities), np.float32)


PICKS: dict[str, tuple[str, Callable[[Probabilities, Labels], NDArray[np.float32]]]] = {
    "confident": ("most confident first", _confidence),
    "surprising": ("least probability on the true class first", _surprise),
    "close": ("narrowest lead over the second class first", _closeness),
    "first": ("in the order of the test set", _same_for_all),
}
"""Rules for choosing misclassified images: a description, and a value per image, largest first."""


def choose_misclassified(
    probabilities: Probabilities, labels: Labels, pick: str = "confident", n: int = 10
) -> NDArray[np.int64]:
    """Indices of the n misclassified images that a rule of PICKS puts first; ties in test set order.

    Raises:
        UsageError: unknown rule.
    """
    _, rule = PICKS[one_of("rule for --pick", pick, PICKS)]
    is_wrong = probabilities.argmax(axis=1) != labels
    wrong = np.flatnonzero(is_wrong)
    ranked = np.argsort(-rule(probabilities, labels)[wrong], kind="stable")
    return wrong[ranked[:n]]
