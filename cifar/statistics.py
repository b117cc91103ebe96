"""Intervals and paired tests, over scipy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # which loads scipy.stats, half a second, when it is first used
from numpy.typing import NDArray

Interval = tuple[float, float]


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a proportion (Wilson 1927)."""
    interval = scipy.stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class PairedDifference:
    """Two classifiers on the same images.

    Attributes:
        difference: accuracy of the second less that of the first.
        interval: its 95 % interval (Agresti and Min 2005).
        gained, lost: images that only the second, only the first gets right.
        p_value: McNemar's exact test of no difference.
    """

    difference: float
    interval: Interval
    gained: int
    lost: int
    p_value: float


def paired_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], confidence: float = 0.95
) -> PairedDifference:
    """Compare which images two classifiers get right, both (N,) bool in the same order.

    The interval is Wald's after adding half an image to each of the four cells, which keeps it honest where few
    images differ.
    """
    assert first.shape == second.shape
    n, gained, lost = len(first), int((second & ~first).sum()), int((first & ~second).sum())
    p_value = scipy.stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    b, c, total = gained + 0.5, lost + 0.5, n + 2
    centre = (b - c) / total
    reach = scipy.stats.norm.ppf((1 + confidence) / 2) * math.sqrt(b + c - (b - c) ** 2 / total) / total
    interval = (max(-1.0, centre - reach), min(1.0, centre + reach))
    return PairedDifference((gained - lost) / n, interval, gained, lost, float(p_value))


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, its standard deviation and its 95 % t interval (both None for a single value)."""

    n: int
    mean: float
    deviation: float | None
    interval: Interval | None


def mean(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Mean of independent values with Student's interval; at least one value."""
    n, centre = len(values), float(np.mean(values))
    if n < 2:
        return Mean(n, centre, None, None)
    deviation = float(np.std(values, ddof=1))
    reach = float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return Mean(n, centre, deviation, (centre - reach, centre + reach))
