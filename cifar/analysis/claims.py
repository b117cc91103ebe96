"""The claims of the published text as data, and their verdicts on the figures of runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cifar.analysis.gains import (
    Gain,
    Pair,
    accuracy,
    augmentation_gain,
    clean_training_accuracy,
    is_too_short,
    mean_over,
)
from cifar.metrics import statistics
from cifar.metrics.statistics import Interval

PUBLISHED_POLICY = "shift-flip"  # the policy that the published text is about


@dataclass(frozen=True)
class Claim:
    """A claim of the published text and its verdict on one network.

    The verdict is one of: yes, no, cannot tell, too short to judge.
    """

    network: str
    claim: str
    verdict: str
    figures: str


@dataclass(frozen=True)
class Unit:
    """How a difference is written.

    Attributes:
        scale: factor of the difference.
        format: of one number.
        name: written behind the number.
    """

    scale: float
    format: str
    name: str

    def describe(self, difference: float, interval: Interval | None) -> str:
        """Return a difference with its interval, if it has one."""
        text = self._number(difference) + self.name
        if interval is None:
            return text
        low, high = interval
        return f"{text}, 95 % {self._number(low)} to {self._number(high)}"

    def _number(self, value: float) -> str:
        return self.format.format(self.scale * value)


NATS = Unit(1, "{:+.3f}", "")
POINTS = Unit(100, "{:+.1f}", " points")


@dataclass(frozen=True)
class Statement:
    """A claim before it is judged: that a difference is positive.

    Attributes:
        text: the claim; {augment} is the policy's name.
        figures: its figures; {difference} with its interval, other names as in `_mean_figures`.
        difference: of the runs of one seed.
        unit: of the difference.
        compares_test_images: whether the gain's interval over test images holds for a single seed.
    """

    text: str
    figures: str
    difference: Callable[[Pair], float]
    unit: Unit
    compares_test_images: bool = False


STATEMENTS = (
    Statement(
        text="the plain run overfits",
        figures="test loss less training loss, mean of the last 5 epochs: {difference}",
        difference=lambda pair: pair.plain.loss_gap,
        unit=NATS,
    ),
    Statement(
        text="{augment} narrows that gap",
        figures="{plain_gap:+.3f} to {augmented_gap:+.3f}, narrower by {difference}",
        difference=lambda pair: pair.plain.loss_gap - pair.augmented.loss_gap,
        unit=NATS,
    ),
    Statement(
        text="{augment} raises test accuracy",
        figures="after the last epoch by {difference}",
        difference=lambda pair: accuracy(pair.augmented) - accuracy(pair.plain),
        unit=POINTS,
        compares_test_images=True,
    ),
    Statement(
        text="with {augment}, test accuracy exceeds the training curve's",
        figures="{curve_test:.1%} against {curve_training:.1%}, mean of the last 5 epochs, by {difference}",
        difference=lambda pair: (
            pair.augmented.mean_last_epochs("test_accuracy") - pair.augmented.mean_last_epochs("accuracy")
        ),
        unit=POINTS,
    ),
    Statement(
        text="with {augment}, it exceeds that on clean training images",
        figures="{test:.1%} against {clean:.1%}, last epoch, by {difference}",
        difference=lambda pair: accuracy(pair.augmented) - clean_training_accuracy(pair.augmented),
        unit=POINTS,
    ),
)


def judge_claims(network: str, augment: str, pairs: Sequence[Pair]) -> list[Claim]:
    """Return the published claims with their verdicts, for any policy in place of the published one.

    Over several seeds the 95 % interval of the difference decides (Student). One seed tells of its own runs only: of
    accuracy by the interval over test images, of all else by the sign.
    """
    gain = augmentation_gain(network, augment, pairs)
    figures = _mean_figures(pairs)
    claims = []
    for statement in STATEMENTS:
        difference = statistics.mean([statement.difference(pair) for pair in pairs])
        interval = difference.interval
        if interval is None and statement.compares_test_images:
            interval = gain.interval
        described = statement.unit.describe(difference.mean, interval)
        claim = Claim(
            network=network,
            claim=statement.text.format(augment=augment),
            verdict=_verdict(difference.mean, interval, gain.epochs),
            figures=f"{statement.figures.format(difference=described, **figures)} ({_basis(gain, interval)})",
        )
        claims.append(claim)
    return claims


def _mean_figures(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the figures that the statements name, means over seeds."""
    plain, augmented = zip(*pairs, strict=True)
    return {
        "plain_gap": mean_over(plain, lambda run: run.loss_gap),
        "augmented_gap": mean_over(augmented, lambda run: run.loss_gap),
        "curve_test": mean_over(augmented, lambda run: run.mean_last_epochs("test_accuracy")),
        "curve_training": mean_over(augmented, lambda run: run.mean_last_epochs("accuracy")),
        "test": mean_over(augmented, accuracy),
        "clean": mean_over(augmented, clean_training_accuracy),
    }


def _verdict(difference: float, interval: Interval | None, epochs: int) -> str:
    """Return whether a difference is positive."""
    if is_too_short(epochs):
        return "too short to judge"
    low, high = interval or (difference, difference)
    if low > 0:
        return "yes"
    if high < 0 or interval is None:
        return "no"
    return "cannot tell"


def _basis(gain: Gain, interval: Interval | None) -> str:
    """Return what a figure is based on."""
    if interval is None:
        return "one seed"
    return gain.basis
