"""Intervals and paired tests, over scipy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

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
    half_width = scipy.stats.norm.ppf((1 + confidence) / 2) * math.sqrt(b + c - (b - c) ** 2 / total) / total
    interval = (max(-1.0, centre - half_width), min(1.0, centre + half_width))
    return PairedDifference((gained - lost) / n, interval, gained, lost, float(p_value))


def unpaired_difference(first: float, n: int, second: float, m: int, confidence: float = 0.95) -> Interval:
    """Interval of the second proportion, of m, less the first, of n (Agresti and Caffo 2000)."""
    p, q = (first * n + 1) / (n + 2), (second * m + 1) / (m + 2)
    half_width = float(scipy.stats.norm.ppf((1 + confidence) / 2))
    half_width *= math.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))
    return q - p - half_width, q - p + half_width


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
    half_width = float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return Mean(n, centre, deviation, (centre - half_width, centre + half_width))


def difference_of_means(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Interval of the second mean less the first, of independent values (Welch 1947); None for a single value."""
    n, m = len(first), len(second)
    if min(n, m) < 2:
        return None
    difference = float(np.mean(second) - np.mean(first))
    a, b = float(np.var(first, ddof=1)) / n, float(np.var(second, ddof=1)) / m
    if a + b == 0:
        return difference, difference
    df = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    half_width = float(scipy.stats.t.ppf((1 + confidence) / 2, df)) * math.sqrt(a + b)
    return difference - half_width, difference + half_width


@dataclass(frozen=True)
class Noise:
    """How far the medians of repeated processes log_median_variance from one process to the next, learnt from many rows.

    Attributes:
        variance: of the logarithm of a median; what is typical of a row.
        df: how firmly that is known of a single row, in degrees of df; infinite if all rows log_median_variance alike.
        measured: False if nothing was repeated, so that it is an assumption.
    """

    variance: float
    df: float
    measured: bool = True


ASSUMED_NOISE = Noise(0.05**2, math.inf, measured=False)
MIN_DEVIATION = 0.003  # of the logarithm: clocks and chance make no machine steadier


def estimate_noise(rows: Sequence[tuple[float, int]]) -> Noise:
    """What rows tell of each other's noise: empirical Bayes for variances (Smyth 2004, doi 10.2202/1544-6115.1027).

    Args:
        rows: of each row the variance of its logarithms between repetitions, and its degrees of df.
    """
    known = [(max(variance, MIN_DEVIATION**2), df) for variance, df in rows if df > 0]
    if not known:
        return ASSUMED_NOISE
    halves = np.array([df / 2 for _, df in known])
    digamma, trigamma = scipy.special.digamma, partial(scipy.special.polygamma, 1)
    logs = np.log([variance for variance, _ in known]) - digamma(halves) + np.log(halves)
    spread = float(logs.var(ddof=1) - trigamma(halves).mean()) if len(known) > 2 else math.inf
    if spread <= 0:
        return Noise(float(np.exp(logs.mean())), math.inf)
    half = _inverse_trigamma(spread) if math.isfinite(spread) else 0.5
    return Noise(float(np.exp(logs.mean() + digamma(half) - math.log(half))), 2 * half)


def _inverse_trigamma(value: float) -> float:
    """The x > 0 whose trigamma is `value`."""
    return float(scipy.optimize.brentq(lambda x: float(scipy.special.polygamma(1, x)) - value, 1e-8, 1e8))


def log_median_variance(repetitions: Sequence[NDArray[np.float64]]) -> tuple[float, int]:
    """Variance of the logarithms of the repetitions' medians, and its degrees of df (0 for a single one)."""
    medians = _log_medians(repetitions)
    return (float(medians.var(ddof=1)), len(medians) - 1) if len(medians) > 1 else (0.0, 0)


@dataclass(frozen=True)
class Ratio:
    """How many times as long the second takes as the first.

    Attributes:
        ratio: of the geometric means of the repetitions' medians.
        interval: its 95 % interval.
        p_value: two-sided, of no difference.
    """

    ratio: float
    interval: Interval
    p_value: float


def time_ratio(
    first: Sequence[NDArray[np.float64]],
    second: Sequence[NDArray[np.float64]],
    noise: Noise,
    drift: float = 0.0,
    confidence: float = 0.95,
) -> Ratio:
    """Compare the times of two rows by the medians of their repetitions (a moderated t test on logarithms).

    Args:
        first: for each repetition its samples, in seconds.
        second: the same.
        noise: learnt from all rows.
        drift: by how much, as a logarithm, the whole machine may have changed between the two; counted against any
            difference.
        confidence: of the interval.
    """
    own = [log_median_variance(first), log_median_variance(second)]
    df = sum(degrees for _, degrees in own)
    squares = sum(variance * degrees for variance, degrees in own)
    if math.isinf(noise.df):
        variance, total = max(noise.variance, MIN_DEVIATION**2), math.inf
    else:
        total = noise.df + df
        variance = max((noise.df * noise.variance + squares) / total, MIN_DEVIATION**2)
    difference = float(_log_medians(second).mean() - _log_medians(first).mean())
    error = math.sqrt(variance * (1 / len(first) + 1 / len(second)))
    student = scipy.stats.norm if math.isinf(total) else scipy.stats.t(total)
    p_value = 2 * float(student.sf(max(0.0, abs(difference) - drift) / error))
    half_width = float(student.ppf((1 + confidence) / 2)) * error + drift
    return Ratio(
        math.exp(difference), (math.exp(difference - half_width), math.exp(difference + half_width)), p_value
    )


def _log_medians(repetitions: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.log([float(np.median(samples)) for samples in repetitions])


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that all of them together err no more often than one would (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
