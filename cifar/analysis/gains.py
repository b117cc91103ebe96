"""Augmentation gain: test accuracy with an augmentation policy less that without, otherwise equal recipes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cifar.analysis.finished_run import FinishedRun
from cifar.metrics import statistics
from cifar.metrics.statistics import Interval

MIN_EPOCHS = 20  # a shorter training cannot show a gain


class Pair(NamedTuple):
    """Runs of one seed without and with augmentation."""

    plain: FinishedRun
    augmented: FinishedRun


@dataclass(frozen=True)
class Gain:
    """The augmentation gain of a policy on one network.

    Attributes:
        epochs: of each run.
        seeds: of the pairs of runs.
        plain, augmented: test accuracy without and with the policy after the last epoch, mean over seeds.
        difference: augmented less plain.
        mean_last_epochs_difference: the same, of the means over the last five epochs.
        interval: 95 % interval of the difference: over test images for one seed (Agresti and Min), over seeds for
            several (Student).
        mean_last_epochs_interval: 95 % interval of mean_last_epochs_difference over seeds; None for one seed.
        p_value: McNemar's exact test for one seed; None for several.
        basis: what the interval covers.
    """

    network: str
    augment: str
    epochs: int
    seeds: list[int]
    plain: float
    augmented: float
    difference: float
    mean_last_epochs_difference: float
    interval: Interval | None
    mean_last_epochs_interval: Interval | None
    p_value: float | None
    basis: str


def is_too_short(epochs: int) -> bool:
    """Whether a training of so many epochs is too short to show an augmentation gain."""
    return epochs < MIN_EPOCHS


def augmentation_gain(network: str, augment: str, pairs: Sequence[Pair]) -> Gain:
    """Return the gain of a policy over the pairs of a network's runs, one pair per seed."""
    plain_runs, augmented_runs = zip(*pairs, strict=True)
    plain = mean_over(plain_runs, accuracy)
    augmented = mean_over(augmented_runs, accuracy)
    last_epochs = statistics.mean(differences(pairs, accuracy_of_last_epochs))
    if len(pairs) == 1:
        paired = statistics.paired_difference(pairs[0].plain.correct_mask, pairs[0].augmented.correct_mask)
        interval: Interval | None = paired.interval
        p_value: float | None = paired.p_value
        basis = "test images, one seed"
    else:
        interval = statistics.mean(differences(pairs, accuracy)).interval
        p_value = None
        basis = f"{len(pairs)} seeds"
    return Gain(
        network=network,
        augment=augment,
        epochs=pairs[0].plain.run.recipe.epochs,
        seeds=[run.seed for run in plain_runs],
        plain=plain,
        augmented=augmented,
        difference=augmented - plain,
        mean_last_epochs_difference=last_epochs.mean,
        interval=interval,
        mean_last_epochs_interval=last_epochs.interval,
        p_value=p_value,
        basis=basis,
    )


def accuracy(run: FinishedRun) -> float:
    """Return the test accuracy after the last epoch."""
    return run.scores.accuracy


def accuracy_of_last_epochs(run: FinishedRun) -> float:
    """Return the mean test accuracy of the last five epochs."""
    return run.mean_last_epochs("test_accuracy")


def clean_training_accuracy(run: FinishedRun) -> float:
    """Return the accuracy on clean training images, without augmentation and dropout."""
    return run.metrics.train_accuracy_clean


def differences(pairs: Sequence[Pair], value: Callable[[FinishedRun], float]) -> list[float]:
    """Return a value of each pair's augmented run less that of its plain run."""
    return [value(pair.augmented) - value(pair.plain) for pair in pairs]


def mean_over(runs: Sequence[FinishedRun], value: Callable[[FinishedRun], float]) -> float:
    """Return the mean of a value over runs."""
    return float(np.mean(list(map(value, runs))))
