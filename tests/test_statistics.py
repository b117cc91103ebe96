import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from cifar.metrics import statistics
from cifar.metrics.statistics import (
    difference_of_means,
    mean,
    paired_difference,
    proportion_interval,
    unpaired_difference,
)

Z = 1.959963984540054  # 97.5 % point of the normal distribution
CELLS = st.tuples(*[st.integers(0, 40)] * 4).filter(any)  # images right for both, second, first, neither


def correct_mask(both: int, gained: int, lost: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    counts = (both, gained, lost, neither)
    return np.repeat([True, False, True, False], counts), np.repeat([True, True, False, False], counts)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_proportion_is_the_published_wilson_interval(successes, n, low, high):
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    assert proportion_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_ends_of_the_interval_solve_wilsons_equation(count):
    successes, n = count
    for end in proportion_interval(successes, n):
        assert n * (successes / n - end) ** 2 == pytest.approx(Z**2 * end * (1 - end), rel=1e-6, abs=1e-9)


def test_more_confidence_gives_a_wider_interval_of_a_proportion():
    narrow, wide = proportion_interval(80, 100, 0.9), proportion_interval(80, 100, 0.99)
    assert wide[0] < narrow[0] < 0.8 < narrow[1] < wide[1]


@pytest.mark.parametrize(("p", "n"), [(0.98, 100), (0.8, 1000)])  # Wald's interval covers 0.98 of 100 for 87 %
def test_the_interval_of_a_proportion_covers_the_truth_in_95_of_100_samples(p, n):
    samples = np.random.default_rng(0).binomial(n, p, 4000)
    intervals = {count: proportion_interval(int(count), n) for count in np.unique(samples)}
    covered = np.mean([intervals[count][0] <= p <= intervals[count][1] for count in samples])
    assert 0.935 < covered < 0.965


def test_mcnemars_p_value_is_the_one_computed_by_hand():
    difference = paired_difference(*correct_mask(70, 8, 2, 20))
    assert (difference.gained, difference.lost) == (8, 2)
    assert difference.difference == 0.06
    assert difference.p_value == pytest.approx(2 * (1 + 10 + 45) / 1024)  # 0, 1 or 2 of ten, or 8, 9 or 10


@settings(deadline=None, max_examples=100)
@given(CELLS)
def test_mcnemars_p_value_is_the_exact_binomial_one(cells):
    _, gained, lost, _ = cells
    discordant = gained + lost
    tail = sum(math.comb(discordant, k) for k in range(min(gained, lost) + 1)) / 2**discordant
    p_value = paired_difference(*correct_mask(*cells)).p_value
    assert p_value == pytest.approx(min(1.0, 2 * tail))
    if discordant:
        assert p_value == stats.binomtest(gained, discordant, 0.5).pvalue


def test_the_interval_of_a_difference_is_the_one_computed_by_hand():
    # 8.5 / 102 and 2.5 / 102: sum 0.107843, difference 0.058824; sqrt((0.107843 - 0.058824**2) / 102) = 0.031990
    expected = (0.058824 - Z * 0.031990, 0.058824 + Z * 0.031990)
    assert paired_difference(*correct_mask(70, 8, 2, 20)).interval == pytest.approx(expected, abs=2e-6)


@settings(deadline=None, max_examples=100)
@given(CELLS)
def test_the_interval_contains_the_difference_and_ends_within_one(cells):
    difference = paired_difference(*correct_mask(*cells))
    low, high = difference.interval
    assert -1 <= low <= difference.difference <= high <= 1


def test_the_interval_of_a_single_image_is_cut_off_at_one():
    low, high = paired_difference(*correct_mask(0, 1, 0, 0)).interval
    assert low == pytest.approx(1 / 3 - Z * math.sqrt(2 - 1 / 3) / 3)
    assert high == 1.0


@settings(deadline=None, max_examples=100)
@given(CELLS)
def test_swapping_the_classifiers_mirrors_the_comparison(cells):
    first, second = correct_mask(*cells)
    forth, back = paired_difference(first, second), paired_difference(second, first)
    assert back.difference == -forth.difference
    assert back.interval == pytest.approx((-forth.interval[1], -forth.interval[0]))
    assert (back.gained, back.lost) == (forth.lost, forth.gained)
    assert back.p_value == forth.p_value


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200), st.integers(0, 200))
def test_classifiers_that_agree_everywhere_do_not_differ(right, wrong):
    difference = paired_difference(*correct_mask(right, 0, 0, wrong))
    assert (difference.difference, difference.gained, difference.lost, difference.p_value) == (0.0, 0, 0, 1.0)
    low, high = difference.interval
    assert low == -high < 0  # no difference was seen; that none exists is not known


def test_the_order_of_the_images_does_not_matter_as_long_as_it_is_the_same():
    first, second = correct_mask(30, 9, 4, 7)
    shuffled = np.random.default_rng(0).permutation(50)
    assert paired_difference(first[shuffled], second[shuffled]) == paired_difference(first, second)


def test_classifiers_scored_on_different_numbers_of_images_are_not_compared():
    with pytest.raises(AssertionError):
        paired_difference(np.ones(3, np.bool_), np.ones(4, np.bool_))


@pytest.mark.parametrize(("n", "gained", "lost"), [(50, 0.04, 0.02), (1000, 0.06, 0.03)])
def test_the_interval_of_a_difference_covers_the_truth_in_at_least_95_of_100_samples(n, gained, lost):
    # Of 50 images, Wald's interval without the half images covers 86 %, this one 98 %.
    cells = np.random.default_rng(0).multinomial(n, [0.7, gained, lost, 0.3 - gained - lost], 4000)
    discordant, counts = np.unique(cells[:, 1:3], axis=0, return_counts=True)
    intervals = [paired_difference(*correct_mask(0, b, c, n - b - c)).interval for b, c in discordant]
    covered = counts[[low <= gained - lost <= high for low, high in intervals]].sum() / len(cells)
    assert 0.935 < covered < 0.985


def test_the_mean_of_three_has_the_interval_of_the_t_table():
    of_three = mean([0.70, 0.72, 0.74])
    assert (of_three.n, of_three.mean, of_three.deviation) == (3, pytest.approx(0.72), pytest.approx(0.02))
    half_width = 4.303 * 0.02 / math.sqrt(3)  # t table, 2 degrees of freedom, 97.5 %
    assert of_three.interval == pytest.approx((0.72 - half_width, 0.72 + half_width), abs=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=10, unique=True), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_of_a_mean_is_the_one_of_scipys_t_test(counts, confidence):
    values = [count / 10_000 for count in counts]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    assert mean(values, confidence).interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_single_value_has_a_mean_but_neither_deviation_nor_interval():
    of_one = mean([0.7])
    assert (of_one.n, of_one.mean, of_one.deviation, of_one.interval) == (1, 0.7, None, None)


def test_a_mean_differs_from_0_at_5_percent_where_its_interval_excludes_0() -> None:
    assert statistics.t_test([0.70, 0.72, 0.74]) == pytest.approx(stats.ttest_1samp([0.70, 0.72, 0.74], 0).pvalue)
    for values in ([0.1, 0.11, 0.12], [0.1, 0.2, 0.4], [-0.1, 0.2, 0.4], [-3.0, -2.0]):
        low, high = mean(values).interval
        assert (statistics.t_test(values) < 0.05) == (low > 0 or high < 0)
    assert [statistics.t_test(values) for values in ([0.7], [0.0, 0.0], [0.5, 0.5])] == [None, 1.0, 0.0]


def test_equal_values_have_an_interval_of_no_width():
    of_equal = mean([0.5, 0.5, 0.5, 0.5])
    assert (of_equal.deviation, of_equal.interval) == (0.0, (0.5, 0.5))


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6),
    st.lists(st.floats(0, 1), min_size=2, max_size=6),
    st.floats(-0.5, 0.5),
)
def test_the_difference_of_means_lies_in_its_interval_and_moves_with_them(
    first: list[float], second: list[float], by: float
) -> None:
    assume(np.var(first) + np.var(second) > 1e-6)
    low, high = difference_of_means(first, second)
    assert low <= np.mean(second) - np.mean(first) <= high
    moved = difference_of_means(first, [value + by for value in second])
    assert moved == pytest.approx((low + by, high + by), abs=1e-6)
    assert difference_of_means(second, first) == pytest.approx((-high, -low), abs=1e-9)


def test_the_difference_of_means_is_welchs() -> None:
    low, high = difference_of_means([79.0, 80.0, 81.0], [82.0, 83.0])
    # s^2 / n: 1/3 and 1/4; degrees of freedom (7/12)^2 / ((1/3)^2 / 2 + (1/4)^2 / 1) = 2.8824; t = 3.2572
    assert (low, high) == pytest.approx((2.5 - 3.2572 * (7 / 12) ** 0.5, 2.5 + 3.2572 * (7 / 12) ** 0.5), abs=2e-3)
    assert difference_of_means([1.0], [2.0, 3.0]) is None


def test_equal_values_have_a_difference_without_width_and_without_a_warning() -> None:
    assert difference_of_means([0.1, 0.1], [0.3, 0.3]) == pytest.approx((0.2, 0.2))
    low, high = difference_of_means([0.1, 0.1, 0.1], [0.3, 0.3, 0.3])  # their mean is not 0.1 to the bit
    assert low == pytest.approx(high)


def test_intervals_are_those_of_version_0_1_0_computed_without_scipys_own() -> None:
    first, second = [0.7712, 0.7689, 0.7745, 0.7701], [0.7921, 0.7899, 0.8012]
    assert mean(first).interval == pytest.approx((0.7673442039284616, 0.7750057960715383), abs=1e-12)
    assert mean(first, 0.99).interval == pytest.approx((0.7641441406259426, 0.7782058593740573), abs=1e-12)
    assert difference_of_means(first, second) == pytest.approx(
        (0.010093870546725768, 0.036356129453274336), abs=1e-12
    )
    assert difference_of_means(first, second, 0.9) == pytest.approx(
        (0.013835733017924646, 0.03261426698207546), abs=1e-12
    )
    assert proportion_interval(7712, 10_000) == pytest.approx((0.7628637534254075, 0.7793279658583376), abs=1e-12)
    assert unpaired_difference(0.77, 10_000, 0.79, 5_000) == pytest.approx(
        (0.005956257895696673, 0.033919813271517246), abs=1e-12
    )
    assert paired_difference(*correct_mask(700, 60, 40, 200)).interval == pytest.approx(
        (0.00034088938282461276, 0.039579270297814106), abs=1e-12
    )


def test_the_noise_and_a_ratio_are_those_of_version_0_1_0() -> None:
    noise = statistics.estimate_noise([(1e-4, 2), (4e-4, 2), (2.5e-5, 4), (9e-4, 1), (1e-6, 2), (1.0, 0)])
    assert (noise.variance, noise.df) == pytest.approx((8.138495483656801e-05, 1.4674747264550283), rel=1e-9)
    first = [np.array([1.0, 1.1, 1.2]), np.array([1.0, 1.05, 1.3])]
    second = [np.array([1.2, 1.3, 1.25]), np.array([1.1, 1.4, 1.2])]
    ratio = statistics.time_ratio(first, second, noise, drift=0.01)
    assert (ratio.ratio, *ratio.interval, ratio.p_value) == pytest.approx(
        (1.1396057645963795, 1.0503778238975605, 1.2364134782304355, 0.010922731795614201), rel=1e-9
    )


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_is_between_the_p_values_and_bonferroni_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = statistics.holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(p_values)) or q == pytest.approx(min(1.0, p * len(p_values)))
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(adjusted)[order]) == sorted(adjusted)


def test_the_noise_of_like_rows_is_estimated_from_all_of_them() -> None:
    random = np.random.default_rng(1)
    alike = [(float(0.02**2 * random.chisquare(2) / 2), 2) for _ in range(200)]
    noise = statistics.estimate_noise(alike)
    assert math.sqrt(noise.variance) == pytest.approx(0.02, rel=0.1)
    assert noise.df > 20
    unlike = [(float((0.02 * math.exp(random.normal())) ** 2 * random.chisquare(2) / 2), 2) for _ in range(200)]
    assert statistics.estimate_noise(unlike).df < 4
    assert not statistics.estimate_noise([]).measured
