"""Verdicts on what a row says beside its time: strict where it must be the same to the bit, else by counts."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from cifar.compare.limits import RowLimits
from cifar.compare.results import Row
from cifar.compare.verdict import FALSE_ALARMS, Outcome, Verdict
from cifar.metrics import classification, statistics
from cifar.metrics.statistics import Interval

MORE_IS_WORSE = {"file_bytes": True, "parameters": True, "agreement": False}
"""What is gated strictly: it is deterministic."""


def compare_quality(base: Row, head: Row, same_key: bool, limits: RowLimits, rows: int) -> Iterator[Verdict]:
    """The verdicts on what a row says beside its time.

    Args:
        base: the row.
        head: the same row of the other result.
        same_key: whether versions, instruction sets and settings are the same.
        limits: the smallest differences that matter.
        rows: how many rows are compared: what is tested is corrected for it.
    """
    for column, more_is_worse in MORE_IS_WORSE.items():
        before, after = base.facts.get(column), head.facts.get(column)
        if before is not None and after is not None:
            worse = after > before if more_is_worse else after < before
            outcome: Outcome = "unchanged" if before == after else "regressed" if worse else "improved"
            yield Verdict(head.name, column, outcome, before, after)
    before, after = base.facts.get("accuracy"), head.facts.get("accuracy")
    if before is None and after is None:
        return
    if before is None or after is None:
        yield Verdict(
            head.name,
            "accuracy",
            "regressed" if after is None else "improved",
            before,
            after,
            reason="missing in one",
        )
    elif same_key and _same_model(base, head):
        yield from _exactly(base, head, before, after)
    else:
        yield _accuracy(base, head, before, after, limits.accuracy / 100, rows)


def _exactly(base: Row, head: Row, before: float, after: float) -> Iterator[Verdict]:
    """Under the same key the weights and the counts must be equal: any change is one that nobody meant."""
    there, here = base.facts.get("weights_sha256"), head.facts.get("weights_sha256")
    if there != here:
        reason = f"{str(there)[:12]}… became {str(here)[:12]}… under the same versions, instruction sets and threads"
        yield Verdict(head.name, "weights", "regressed", reason=reason)
    outcome: Outcome = "unchanged" if before == after else "regressed"
    reason = "" if before == after else "must be the same under the same key"
    yield Verdict(head.name, "accuracy", outcome, before, after, 100 * (after - before), reason=reason)


def _accuracy(base: Row, head: Row, before: float, after: float, margin: float, rows: int) -> Verdict:
    """Accuracies of trainings that need not be equal: by a test on the images, corrected for the number of rows."""
    difference, points = after - before, 100 * (after - before)
    known = _interval(base, head, before, after)
    if known is None:
        outcome: Outcome = "unchanged" if abs(difference) < margin else "regressed" if difference < 0 else "improved"
        return Verdict(head.name, "accuracy", outcome, before, after, points, reason="no counts: by the margin alone")
    interval, basis = known
    low, high = interval(1 - FALSE_ALARMS / rows)
    if high < 0 and difference <= -margin:
        outcome = "regressed"
    elif low > 0 and difference >= margin:
        outcome = "improved"
    else:
        outcome = "unchanged" if low > -margin and high < margin else "inconclusive"
    shown = interval(0.95)
    return Verdict(
        head.name, "accuracy", outcome, before, after, points, (100 * shown[0], 100 * shown[1]), reason=basis
    )


def _interval(base: Row, head: Row, before: float, after: float) -> tuple[Callable[[float], Interval], str] | None:
    """The interval of a difference of accuracies as a function of its confidence, and what it rests on."""
    first, second = _hits(base), _hits(head)
    if first is not None and second is not None and len(first) == len(second) and _alike(base, head, "data_sha256"):
        return lambda level: statistics.paired_difference(first, second, level).interval, "paired, per image"
    n, m = base.facts.get("n_test"), head.facts.get("n_test")
    if n and m:
        return lambda level: statistics.unpaired_difference(before, int(n), after, int(m), level), "not paired"
    return None


def _same_model(base: Row, head: Row) -> bool:
    """Whether both rows are of a network that we trained, by the same recipe on the same data."""
    ours = base.facts.get("weights_sha256") is not None
    columns = ("network", "augment", "seed", "data_sha256", "threads", "n_test")
    return ours and all(_alike(base, head, name) for name in columns)


def _alike(base: Row, head: Row, column: str) -> bool:
    return base.facts.get(column) == head.facts.get(column)


def _hits(row: Row) -> NDArray[np.bool_] | None:
    """Which test images a row gets right, (N,) bool; None where that is not kept or does not give its accuracy."""
    packed, n = row.facts.get("correct_mask"), row.facts.get("n_test")
    if not isinstance(packed, str) or not n:
        return None
    try:
        correct_mask = classification.unpack_mask(packed, int(n))
    except ValueError:
        return None
    accuracy = row.facts.get("accuracy")
    return correct_mask if accuracy is not None and math.isclose(float(correct_mask.mean()), accuracy) else None
