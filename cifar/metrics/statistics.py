"""Intervals and tests: scipy's where it has them, and those it lacks."""

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats takes half a second to import and is loaded on first use
from numpy.typing import NDArray

Interval = tuple[float, float]


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a proportion (Wilson 1927)."""
    interval = scipy.stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class PairedDifference:
    """The difference of two classifiers on the same images.

    Attributes:
        difference: accuracy of the second minus accuracy of the first.
        interval: its 95 % interval (Agresti and Min 2005).
        gained, lost: images that only the second, only the first classifies correctly.
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
    """Compare two classifiers by the images that each classifies correctly.

    The interval is Wald's after adding half an image to each of the four cells, so that it holds its confidence where
    few images differ (Agresti and Min 2005). scipy has no interval of paired proportions.

    Args:
        first: (N,) bool, whether each image is classified correctly.
        second: the same, in the same order.
        confidence: of the interval.
    """
    assert first.shape == second.shape
    n = len(first)
    gained = int((second & ~first).sum())
    lost = int((first & ~second).sum())
    p_value = 1.0
    if gained + lost:
        p_value = float(scipy.stats.binomtest(gained, gained + lost).pvalue)

    adjusted_gained, adjusted_lost, adjusted_n = gained + 0.5, lost + 0.5, n + 2
    center = (adjusted_gained - adjusted_lost) / adjusted_n
    scaled_variance = adjusted_gained + adjusted_lost - (adjusted_gained - adjusted_lost) ** 2 / adjusted_n
    half_width = _normal_quantile(confidence) * math.sqrt(scaled_variance) / adjusted_n
    interval = (max(-1.0, center - half_width), min(1.0, center + half_width))
    return PairedDifference((gained - lost) / n, interval, gained, lost, p_value)


def unpaired_difference(
    first: float, n_first: int, second: float, n_second: int, confidence: float = 0.95
) -> Interval:
    """Interval of the second proportion minus the first (Agresti and Caffo 2000), which scipy lacks.

    Args:
        first: a proportion.
        n_first: the count that it is a proportion of.
        second: another proportion.
        n_second: its count.
        confidence: of the interval.
    """
    p = (first * n_first + 1) / (n_first + 2)
    q = (second * n_second + 1) / (n_second + 2)
    variance = p * (1 - p) / (n_first + 2) + q * (1 - q) / (n_second + 2)
    half_width = _normal_quantile(confidence) * math.sqrt(variance)
    return q - p - half_width, q - p + half_width


def _normal_quantile(confidence: float) -> float:
    """The half width of a two-sided interval, in standard deviations."""
    return float(scipy.stats.norm.ppf((1 + confidence) / 2))


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, with standard deviation and 95 % t interval (both None for a single value)."""

    n: int
    mean: float
    deviation: float | None
    interval: Interval | None


def mean(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Mean of one or more independent values, with Student's interval."""
    n, center = len(values), float(np.mean(values))
    if n < 2:
        return Mean(n, center, None, None)
    deviation = float(np.std(values, ddof=1))
    with _equal_values_allowed():
        interval = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    return Mean(n, center, deviation, (float(interval.low), float(interval.high)))


def t_test(values: Sequence[float]) -> float | None:
    """P-value of Student's two-sided test that the mean of independent values is 0; None for a single value."""
    if len(values) < 2:
        return None
    if np.ptp(values) == 0:
        return float(values[0] == 0)
    return float(scipy.stats.ttest_1samp(values, 0.0).pvalue)


def difference_of_means(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Interval of the second mean minus the first, of independent values (Welch 1947); None for a single value."""
    if len(first) < 2 or len(second) < 2:
        return None
    with _equal_values_allowed():
        interval = scipy.stats.ttest_ind(second, first, equal_var=False).confidence_interval(confidence)
    return float(interval.low), float(interval.high)


@contextlib.contextmanager
def _equal_values_allowed() -> Iterator[None]:
    """Silence scipy's warning about values that are equal up to rounding, whose interval has no width."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss occurred in moment calculation", RuntimeWarning)
        yield


@dataclass(frozen=True)
class Noise:
    """How far the medians of repeated measurements scatter, estimated from many rows.

    Attributes:
        variance: typical variance of the logarithm of a row's median.
        df: how much a single row is expected to be like the typical one, as degrees of freedom; infinite if all rows
            have the same variance.
        measured: False if nothing was repeated and the variance is an assumption.
    """

    variance: float
    df: float
    measured: bool = True


ASSUMED_NOISE = Noise(0.05**2, math.inf, measured=False)
"""Where nothing was repeated."""

MIN_DEVIATION = 0.003  # of the logarithm of a median: no machine is assumed to be steadier


def estimate_noise(rows: Sequence[tuple[float, int]]) -> Noise:
    """Estimate the distribution of the rows' variances: empirical Bayes (Smyth 2004, doi 10.2202/1544-6115.1027).

    Smyth's model: given a row's true variance, its sample variance s² with d degrees of freedom is a scaled
    chi-squared variable, and the true variances themselves are scaled inverse chi-squared with d0 degrees of freedom
    around s0². The moments of log s² give d0 and s0² (his section 6.2). Here Noise.df is d0, Noise.variance is s0².

    Args:
        rows: of each row the variance of the logarithms of its medians, s², and its degrees of freedom, d.
    """
    variances, dfs = [], []
    for variance, df in rows:
        if df > 0:
            variances.append(max(variance, MIN_DEVIATION**2))
            dfs.append(df)
    if not variances:
        return ASSUMED_NOISE
    half_dfs = np.array(dfs) / 2

    # e = log s² - digamma(d / 2) + log(d / 2) has the mean log s0² - digamma(d0 / 2) + log(d0 / 2).
    unbiased_logs = np.log(variances) - scipy.special.digamma(half_dfs) + np.log(half_dfs)
    mean_log = float(unbiased_logs.mean())
    if len(variances) <= 2:  # too few to estimate how much they differ
        half_d0 = 0.5
    else:
        # Its variance is trigamma(d / 2) + trigamma(d0 / 2): what sampling does not explain is the rows' own.
        excess_variance = float(unbiased_logs.var(ddof=1) - _trigamma(half_dfs).mean())
        if excess_variance <= 0:
            return Noise(math.exp(mean_log), math.inf)
        half_d0 = _inverse_trigamma(excess_variance)
    log_s0_squared = mean_log + float(scipy.special.digamma(half_d0)) - math.log(half_d0)
    return Noise(math.exp(log_s0_squared), 2 * half_d0)


def _trigamma(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(scipy.special.polygamma(1, x))


def _inverse_trigamma(value: float) -> float:
    """The x > 0 whose trigamma is `value`."""
    return float(scipy.optimize.brentq(lambda x: float(_trigamma(x)) - value, 1e-8, 1e8))


def log_median_variance(repetitions: Sequence[NDArray[np.float64]]) -> tuple[float, int]:
    """Variance of the logarithms of the repetitions' medians, and its degrees of freedom (0 for one repetition)."""
    if len(repetitions) < 2:
        return 0.0, 0
    return float(_log_medians(repetitions).var(ddof=1)), len(repetitions) - 1


@dataclass(frozen=True)
class Ratio:
    """The second time divided by the first.

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
    """Compare the times of two rows by the medians of their repetitions, with Smyth's moderated t test on logarithms.

    Args:
        first: the samples of each repetition, in seconds.
        second: the same.
        noise: of all rows.
        drift: how much the whole machine may have changed between the two, as a logarithm; counted against any
            difference.
        confidence: of the interval.
    """
    df, variance = _moderated_variance([log_median_variance(first), log_median_variance(second)], noise)
    distribution = scipy.stats.norm
    if math.isfinite(df):
        distribution = scipy.stats.t(df)
    difference = float(_log_medians(second).mean() - _log_medians(first).mean())
    standard_error = math.sqrt(variance * (1 / len(first) + 1 / len(second)))
    p_value = 2 * float(distribution.sf(max(0.0, abs(difference) - drift) / standard_error))
    half_width = float(distribution.ppf((1 + confidence) / 2)) * standard_error + drift
    interval = (math.exp(difference - half_width), math.exp(difference + half_width))
    return Ratio(math.exp(difference), interval, p_value)


def _moderated_variance(rows: Sequence[tuple[float, int]], noise: Noise) -> tuple[float, float]:
    """The degrees of freedom and the variance of rows, drawn towards the typical variance (Smyth 2004, section 4).

    (d0 s0² + sum of d s²) / (d0 + sum of d), with d0 + sum of d degrees of freedom.
    """
    if math.isinf(noise.df):
        return math.inf, max(noise.variance, MIN_DEVIATION**2)
    total_df = noise.df
    squares = 0.0
    for variance, df in rows:
        total_df += df
        squares += variance * df
    return total_df, max((noise.df * noise.variance + squares) / total_df, MIN_DEVIATION**2)


def _log_medians(repetitions: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.log([float(np.median(samples)) for samples in repetitions])


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that all tests together err no more often than a single one (Holm 1979)."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values)):
        n_remaining = len(p_values) - rank
        largest = max(largest, min(1.0, n_remaining * p_values[index]))
        adjusted[index] = largest
    return adjusted
