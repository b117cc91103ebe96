"""What augmentation buys, and the claims of the published text judged by it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cifar import statistics
from cifar.report.result import LAST, Result
from cifar.statistics import Interval

PUBLISHED = "shift-flip"  # the policy that the published text is about
JUDGED_FROM = 20  # epochs below which the claims are not judged
Pairs = Sequence[tuple[Result, Result]]
"""A plain and an augmented result of each seed."""


@dataclass(frozen=True)
class Gain:
    """What a policy buys over none, on one network and otherwise equal recipes.

    Attributes:
        difference: accuracy with the policy less accuracy without, last epoch; the mean over seeds.
        late_difference: the same, of the means over the last five epochs.
        interval: 95 %: over test images for one seed (Agresti and Min), over seeds for several (Student).
        late_interval: of late_difference over seeds; None for one.
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
    late_difference: float
    interval: Interval | None
    late_interval: Interval | None
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
    late = statistics.mean([b.late("test_accuracy") - a.late("test_accuracy") for a, b in pairs])
    if len(pairs) == 1:
        paired = statistics.paired_difference(pairs[0][0].hits, pairs[0][1].hits)
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
        late_difference=late.mean,
        interval=interval,
        late_interval=late.interval,
        p_value=p_value,
        basis=basis,
    )


def judge(network: str, augment: str, pairs: Pairs) -> list[Claim]:
    """The claims of the published text, which is about one policy; asked of another they mean the same."""
    gap, narrowed = (float(np.mean([pair[side].loss_gap for pair in pairs])) for side in (0, 1))
    gain = gain_of(network, augment, pairs)
    assert gain.interval is not None
    low, high = gain.interval
    augmented = [b for _, b in pairs]
    test, curve = (float(np.mean([r.late(field) for r in augmented])) for field in ("test_accuracy", "accuracy"))
    final = float(np.mean([r.scores.accuracy for r in augmented]))
    clean = float(np.mean([r.metrics["train_accuracy_clean"] for r in augmented]))
    too_short = pairs[0][0].run.recipe.epochs < JUDGED_FROM

    def claim(text: str, verdict: str, figures: str) -> Claim:
        return Claim(network, text, "too short to judge" if too_short else verdict, figures)

    return [
        claim(
            "the plain run overfits",
            _yes(gap > 0),
            f"test loss less training loss {gap:+.3f}, mean of the last {LAST} epochs",
        ),
        claim(f"{augment} narrows that gap", _yes(narrowed < gap), f"{gap:+.3f} to {narrowed:+.3f}"),
        claim(
            f"{augment} raises test accuracy",
            "yes" if low > 0 else "no" if high < 0 else "cannot tell",
            f"{gain.difference * 100:+.1f} points after the last epoch, "
            f"95 % {low * 100:+.1f} to {high * 100:+.1f} ({gain.basis})",
        ),
        claim(
            f"with {augment}, test accuracy exceeds the training curve's",
            _yes(test > curve),
            f"{test:.1%} against {curve:.1%}, mean of the last {LAST} epochs",
        ),
        claim(
            f"with {augment}, it exceeds that on clean training images",
            _yes(final > clean),
            f"{final:.1%} against {clean:.1%}, last epoch",
        ),
    ]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
