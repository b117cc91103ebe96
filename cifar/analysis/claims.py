"""The claims of the published text as data, and their verdicts on the figures of runs.

The text, its facts and what it leaves open: docs/published-text.md.
"""

from collections.abc import Callable, Mapping, Sequence
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

PUBLISHED_TEXT = "Image Classification using Convolution Neural Networks (Keras CNN-CIFAR-10)"
"""The title of the published text."""

PUBLISHED_POLICY = "shift-flip"  # the policy that the published text is about
PRIMARY_FAMILY = ("first tuned bfloat16", PUBLISHED_POLICY)
"""Network with its recipe and precision, and policy; fixed when one pair of seeds was known.

All other claims are exploratory.
"""

SIGNIFICANCE = 0.05
TOO_SHORT = "too short to judge"
ONE_SEED = "one seed: cannot tell"


@dataclass(frozen=True)
class Claim:
    """A claim of the published text and its verdict on one network.

    Attributes:
        network: its name.
        augment: the policy.
        claim: the claim.
        heading: the claim in a few words.
        verdict: yes, no, cannot tell, ONE_SEED or TOO_SHORT.
        figures: of the runs, in words.
        primary: whether it belongs to the primary family, whose verdicts are corrected for their number; all other
            claims are exploratory.
        p_value: of no difference, Student's over seeds; None for one seed.
        adjusted_p_value: Holm's over the claims of the primary family; None for exploratory claims and for one seed.
    """

    network: str
    augment: str
    claim: str
    heading: str
    verdict: str
    figures: str
    primary: bool
    p_value: float | None
    adjusted_p_value: float | None


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
        heading: the same in a few words, for the heading of a column.
        figures: its figures; {difference} with its interval, other names as in `_mean_figures`.
        difference: of the runs of one seed.
        unit: of the difference.
        compares_test_images: whether the gain's interval over test images belongs to the figures of a single seed.
    """

    text: str
    heading: str
    figures: str
    difference: Callable[[Pair], float]
    unit: Unit
    compares_test_images: bool = False


STATEMENTS = (
    Statement(
        text="the plain run overfits",
        heading="overfits",
        figures="test loss less training loss, mean of the last 5 epochs: {difference}",
        difference=lambda pair: pair.plain.loss_gap,
        unit=NATS,
    ),
    Statement(
        text="{augment} narrows that gap",
        heading="narrower gap",
        figures="{plain_gap:+.3f} to {augmented_gap:+.3f}, narrower by {difference}",
        difference=lambda pair: pair.plain.loss_gap - pair.augmented.loss_gap,
        unit=NATS,
    ),
    Statement(
        text="{augment} raises test accuracy",
        heading="higher accuracy",
        figures="{plain_test:.1%} to {test:.1%} after the last epoch, by {difference}",
        difference=lambda pair: accuracy(pair.augmented) - accuracy(pair.plain),
        unit=POINTS,
        compares_test_images=True,
    ),
    Statement(
        text="with {augment}, test accuracy exceeds the training curve's",
        heading="above training curve",
        figures="{curve_test:.1%} against {curve_training:.1%}, mean of the last 5 epochs, by {difference}",
        difference=lambda pair: (
            pair.augmented.mean_last_epochs("test_accuracy") - pair.augmented.mean_last_epochs("accuracy")
        ),
        unit=POINTS,
    ),
    Statement(
        text="with {augment}, it exceeds that on clean training images",
        heading="above clean training",
        figures="{test:.1%} against {clean:.1%}, last epoch, by {difference}",
        difference=lambda pair: accuracy(pair.augmented) - clean_training_accuracy(pair.augmented),
        unit=POINTS,
    ),
)


def judge_claims(network: str, augment: str, pairs: Sequence[Pair]) -> list[Claim]:
    """Return the published claims with their verdicts, for any policy in place of the published one.

    Student's test over seeds decides. In the primary family its p-values are adjusted for the number of claims; the
    verdicts on all other claims are exploratory, each by its own p-value. One seed tells of its own runs only and
    decides nothing.
    """
    gain = augmentation_gain(network, augment, pairs)
    mean_figures = _mean_figures(pairs)
    differences = [list(map(statement.difference, pairs)) for statement in STATEMENTS]
    p_values = list(map(statistics.t_test, differences))
    primary = (network, augment) == PRIMARY_FAMILY
    adjusted_p_values: Sequence[float | None] = [None] * len(p_values)
    deciding_p_values: Sequence[float | None] = p_values
    if primary:
        adjusted_p_values = deciding_p_values = _adjust(p_values)
    claims = []
    for index, statement in enumerate(STATEMENTS):
        claim = Claim(
            network=network,
            augment=augment,
            claim=statement.text.format(augment=augment),
            heading=statement.heading,
            verdict=_verdict(differences[index], deciding_p_values[index], gain.epochs),
            figures=_figures(statement, differences[index], mean_figures, gain),
            primary=primary,
            p_value=p_values[index],
            adjusted_p_value=adjusted_p_values[index],
        )
        claims.append(claim)
    return claims


def _adjust(p_values: Sequence[float | None]) -> Sequence[float | None]:
    """Return p-values adjusted for their number (Holm); as they are if one seed has none."""
    tested = [p_value for p_value in p_values if p_value is not None]
    if len(tested) < len(p_values):
        return p_values
    return statistics.holm(tested)


def _figures(
    statement: Statement, differences: Sequence[float], mean_figures: Mapping[str, float], gain: Gain
) -> str:
    """Return the figures of a claim, with the 95 % interval of the difference and what that covers."""
    mean = statistics.mean(differences)
    interval, basis = mean.interval, gain.basis
    if interval is None and statement.compares_test_images:
        interval = gain.interval
    elif interval is None:
        basis = "one seed"
    difference = statement.unit.describe(mean.mean, interval)
    return f"{statement.figures.format(difference=difference, **mean_figures)} ({basis})"


def _mean_figures(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the figures that the statements name, means over seeds."""
    plain, augmented = zip(*pairs, strict=True)
    return {
        "plain_gap": mean_over(plain, lambda run: run.loss_gap),
        "augmented_gap": mean_over(augmented, lambda run: run.loss_gap),
        "curve_test": mean_over(augmented, lambda run: run.mean_last_epochs("test_accuracy")),
        "curve_training": mean_over(augmented, lambda run: run.mean_last_epochs("accuracy")),
        "plain_test": mean_over(plain, accuracy),
        "test": mean_over(augmented, accuracy),
        "clean": mean_over(augmented, clean_training_accuracy),
    }


def _verdict(differences: Sequence[float], p_value: float | None, epochs: int) -> str:
    """Return whether the mean of the seeds' differences is positive, by the p-value of none; None for one seed."""
    if is_too_short(epochs):
        return TOO_SHORT
    if p_value is None:
        return ONE_SEED
    if p_value > SIGNIFICANCE:
        return "cannot tell"
    if sum(differences) > 0:
        return "yes"
    return "no"
