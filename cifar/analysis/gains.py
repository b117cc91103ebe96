"""What augmentation buys, and the claims of the published text judged by it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cifar.analysis.finished_run import LAST, Result
from cifar.metrics import statistics
from cifar.metrics.statistics import Interval

PUBLISHED = "shift-flip"  # the policy that the published text is about
JUDGED_FROM = 20  # epochs below which the claims are not judged
Pairs = Sequence[tuple[Result, Result]]
"""A plain and an augmented result of each seed."""


@dataclass(frozen=True)
class Gain:
    """What a policy buys over none, on one network and otherwise equal recipes.

    Attributes:
        difference: accuracy with the policy less accuracy without, last epoch; the mean over seeds.
        mean_last_epochs_difference: the same, of the means over the last five epochs.
        interval: 95 %: over test images for one seed (Agresti and Min), over seeds for several (Student).
        mean_last_epochs_interval: of mean_last_epochs_difference over seeds; None for one.
        p_value: McNemar's exact test; None for several seeds.
        basis: in words, what the interval covers.
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


@dataclass(frozen=True)
class Claim:
    """A claim of the published text, judged by one network's figures.

    The verdict is one of: yes, no, cannot tell, too short to judge.
    """

    network: str
    claim: str
    verdict: str
    figures: str


def gain_of(network: str, augment: str, pairs: Pairs) -> Gain:
    """What a policy buys over none."""
    interval: Interval | None
    late = statistics.mean(
        [b.mean_last_epochs("test_accuracy") - a.mean_last_epochs("test_accuracy") for a, b in pairs]
    )
    if len(pairs) == 1:
        paired = statistics.paired_difference(pairs[0][0].correct_mask, pairs[0][1].correct_mask)
        interval, p_value, basis = paired.interval, paired.p_value, "test images, one seed"
    else:
        over = statistics.mean([b.scores.accuracy - a.scores.accuracy for a, b in pairs])
        interval, p_value, basis = over.interval, None, f"{len(pairs)} seeds"
    plain, augmented = (float(np.mean([pair[side].scores.accuracy for pair in pairs])) for side in (0, 1))
    return Gain(
        network=network,
        augment=augment,
        epochs=pairs[0][0].run.recipe.epochs,
        seeds=[a.seed for a, _ in pairs],
        plain=plain,
        augmented=augmented,
        difference=augmented - plain,
        mean_last_epochs_difference=late.mean,
        interval=interval,
        mean_last_epochs_interval=late.interval,
        p_value=p_value,
        basis=basis,
    )


def judge_claims(network: str, augment: str, pairs: Pairs) -> list[Claim]:
    """The claims of the published text, which is about one policy; asked of another they mean the same.

    Each says that a difference is positive. Over several seeds its 95 % interval decides (Student); one seed tells of
    its own runs alone, of accuracy by the interval over test images.
    """
    plain, augmented = ([pair[side] for pair in pairs] for side in (0, 1))
    gain = gain_of(network, augment, pairs)
    gap, narrowed = (_mean(result.loss_gap for result in results) for results in (plain, augmented))
    test, curve = (
        _mean(result.mean_last_epochs(field) for result in augmented) for field in ("test_accuracy", "accuracy")
    )
    clean = _mean(_clean(result) for result in augmented)
    too_short = plain[0].run.recipe.epochs < JUDGED_FROM

    def claim(text: str, figures: str, differences: Iterable[float], unit: Unit, of_one: Interval | None) -> Claim:
        over = statistics.mean(list(differences))
        interval = over.interval or of_one
        words = f"{figures}{unit.describe(over.mean, interval)} ({gain.basis if interval else 'one seed'})"
        return Claim(network, text, "too short to judge" if too_short else _verdict(over.mean, interval), words)

    return [
        claim(
            "the plain run overfits",
            f"test loss less training loss, mean of the last {LAST} epochs: ",
            [a.loss_gap for a in plain],
            NATS,
            None,
        ),
        claim(
            f"{augment} narrows that gap",
            f"{gap:+.3f} to {narrowed:+.3f}, narrower by ",
            [a.loss_gap - b.loss_gap for a, b in pairs],
            NATS,
            None,
        ),
        claim(
            f"{augment} raises test accuracy",
            "after the last epoch by ",
            [b.scores.accuracy - a.scores.accuracy for a, b in pairs],
            POINTS,
            gain.interval,
        ),
        claim(
            f"with {augment}, test accuracy exceeds the training curve's",
            f"{test:.1%} against {curve:.1%}, mean of the last {LAST} epochs, by ",
            [b.mean_last_epochs("test_accuracy") - b.mean_last_epochs("accuracy") for b in augmented],
            POINTS,
            None,
        ),
        claim(
            f"with {augment}, it exceeds that on clean training images",
            f"{gain.augmented:.1%} against {clean:.1%}, last epoch, by ",
            [b.scores.accuracy - _clean(b) for b in augmented],
            POINTS,
            None,
        ),
    ]


@dataclass(frozen=True)
class Unit:
    """How a difference is written."""

    scale: float
    format: str
    name: str

    def describe(self, difference: float, interval: Interval | None) -> str:
        """A difference with its interval, if it has one."""
        centre, *ends = (self.format.format(self.scale * value) for value in (difference, *(interval or ())))
        return f"{centre}{self.name}" + (f", 95 % {' to '.join(ends)}" if ends else "")


NATS, POINTS = Unit(1, "{:+.3f}", ""), Unit(100, "{:+.1f}", " points")


def _verdict(difference: float, interval: Interval | None) -> str:
    low, high = interval or (difference, difference)
    return "yes" if low > 0 else "no" if high < 0 or interval is None else "cannot tell"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _clean(result: Result) -> float:
    return result.metrics.train_accuracy_clean
