"""Verdicts on a row's quality: strict where it must be the same to the bit, else by tests on counts of images."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cifar.compare.benchmark_results import BenchmarkRow
from cifar.compare.limits import RowLimits
from cifar.compare.verdict import FALSE_ALARM_RATE, Outcome, Verdict
from cifar.metrics import classification, statistics
from cifar.metrics.statistics import Interval

CorrectMask = NDArray[np.bool_]

STRICT_COLUMNS = {"file_bytes": "lower", "parameters": "lower", "agreement": "higher"}
"""Deterministic columns, where any change counts, and which direction is better."""

RECIPE_COLUMNS = ("network", "augment", "seed", "data_sha256", "threads", "n_test")
"""Columns that must be equal for two trainings to give the same weights."""


def compare_quality(
    base: BenchmarkRow, head: BenchmarkRow, same_key: bool, limits: RowLimits, n_rows: int
) -> Iterator[Verdict]:
    """The verdicts on a row's quality.

    Args:
        base: the row of the base.
        head: the row of the head.
        same_key: whether both results have the same reproducibility key.
        limits: the smallest differences that matter.
        n_rows: how many rows are compared; tests are corrected for it.
    """
    yield from _compare_strict_columns(base, head)
    before, after = base.columns.accuracy, head.columns.accuracy
    if before is None and after is None:
        return
    if after is None:
        yield Verdict(head.name, "accuracy", "regressed", before, after, reason="missing in one")
    elif before is None:
        yield Verdict(head.name, "accuracy", "improved", before, after, reason="missing in one")
    elif same_key and _is_same_training(base, head):
        yield from _compare_same_training(base, head, before, after)
    else:
        yield _compare_accuracy(base, head, before, after, limits.accuracy / 100, n_rows)


def _compare_strict_columns(base: BenchmarkRow, head: BenchmarkRow) -> Iterator[Verdict]:
    for column, better in STRICT_COLUMNS.items():
        before, after = getattr(base.columns, column), getattr(head.columns, column)
        if before is None or after is None:
            continue
        outcome: Outcome = "regressed"
        if before == after:
            outcome = "unchanged"
        elif (after < before) == (better == "lower"):
            outcome = "improved"
        yield Verdict(head.name, column, outcome, before, after)


def _is_same_training(base: BenchmarkRow, head: BenchmarkRow) -> bool:
    """Whether both rows are of a network trained here by the same recipe on the same data."""
    if base.columns.weights_sha256 is None:
        return False
    return all(_is_equal(base, head, column) for column in RECIPE_COLUMNS)


def _is_equal(base: BenchmarkRow, head: BenchmarkRow, column: str) -> bool:
    return bool(getattr(base.columns, column) == getattr(head.columns, column))


def _compare_same_training(base: BenchmarkRow, head: BenchmarkRow, before: float, after: float) -> Iterator[Verdict]:
    """Under the same key, weights and accuracy must be equal: any change is a regression."""
    base_digest, head_digest = str(base.columns.weights_sha256), str(head.columns.weights_sha256)
    if base_digest != head_digest:
        reason = (
            f"{base_digest[:12]}… became {head_digest[:12]}… under the same versions, instruction sets and threads"
        )
        yield Verdict(head.name, "weights", "regressed", reason=reason)
    points = 100 * (after - before)
    if before == after:
        yield Verdict(head.name, "accuracy", "unchanged", before, after, points)
    else:
        reason = "must be the same under the same key"
        yield Verdict(head.name, "accuracy", "regressed", before, after, points, reason=reason)


def _compare_accuracy(
    base: BenchmarkRow, head: BenchmarkRow, before: float, after: float, margin: float, n_rows: int
) -> Verdict:
    """The verdict on accuracies that need not be equal: by a test on the images, corrected for the number of rows."""
    difference = after - before
    verdict = Verdict(head.name, "accuracy", "inconclusive", before, after, 100 * difference)
    interval_at, basis = _difference_interval(base, head, before, after)
    if interval_at is None:
        return replace(verdict, outcome=_outcome_by_margin(difference, margin), reason=basis)
    low, high = interval_at(0.95)
    strict_interval = interval_at(1 - FALSE_ALARM_RATE / n_rows)
    outcome = _outcome_by_test(difference, strict_interval, margin)
    return replace(verdict, outcome=outcome, interval=(100 * low, 100 * high), reason=basis)


def _outcome_by_margin(difference: float, margin: float) -> Outcome:
    if difference == 0 or abs(difference) < margin:
        return "unchanged"
    if difference < 0:
        return "regressed"
    return "improved"


def _outcome_by_test(difference: float, interval: Interval, margin: float) -> Outcome:
    low, high = interval
    if high < 0 and difference <= -margin:
        return "regressed"
    if low > 0 and difference >= margin:
        return "improved"
    if -margin < low and high < margin:
        return "unchanged"
    return "inconclusive"


def _difference_interval(
    base: BenchmarkRow, head: BenchmarkRow, before: float, after: float
) -> tuple[Callable[[float], Interval] | None, str]:
    """The interval of a difference of accuracies as a function of its confidence, and what it is based on.

    None instead of the function where the numbers of images are not known.
    """
    base_mask, head_mask = _correct_mask(base), _correct_mask(head)
    n_base, n_head = base.columns.n_test, head.columns.n_test
    same_images = n_base == n_head and _is_equal(base, head, "data_sha256")
    if same_images and base_mask is not None and head_mask is not None:
        return partial(_paired_interval, base_mask, head_mask), "paired, per image"
    if n_base and n_head:
        return partial(statistics.unpaired_difference, before, n_base, after, n_head), "not paired"
    return None, "no counts: by the margin alone"


def _paired_interval(base: CorrectMask, head: CorrectMask, confidence: float) -> Interval:
    return statistics.paired_difference(base, head, confidence).interval


def _correct_mask(row: BenchmarkRow) -> CorrectMask | None:
    """Which test images a row classifies correctly, (N,) bool; None if not stored, or at odds with its accuracy."""
    packed, n_test, accuracy = row.columns.correct_mask, row.columns.n_test, row.columns.accuracy
    if packed is None or not n_test or accuracy is None:
        return None
    try:
        correct_mask = classification.unpack_mask(packed, n_test)
    except ValueError:
        return None
    if not math.isclose(float(correct_mask.mean()), accuracy):
        return None
    return correct_mask
