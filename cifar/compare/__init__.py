"""Verdicts on two benchmark results: regressed, improved, unchanged, inconclusive or not comparable.

Quality is gated strictly where it must be the same to the bit, else by tests on counts of images. Times are compared
by the medians of sessions. The typical noise between sessions is estimated from all rows of a kind, or assumed where
one session measured each side; the tests are corrected for the number of rows, so that a comparison without a
difference rarely raises a false alarm.
"""

import math

from cifar.compare import quality, times
from cifar.compare.benchmark_results import BenchmarkResult
from cifar.compare.limits import Limits
from cifar.compare.verdict import OUTCOMES, Comparison
from cifar.system import environment


def compare_results(base: BenchmarkResult, head: BenchmarkResult, limits: Limits | None = None) -> Comparison:
    """Compare two results row by row.

    Args:
        base: the reference.
        head: the result that the verdicts are about.
        limits: the smallest differences that matter; the defaults of `Limits` if None.
    """
    limits = limits or Limits()
    added, pairs = [], []
    for name, row in head.rows.items():
        if name in base.rows:
            pairs.append((base.rows[name], row))
        else:
            added.append(name)
    removed = [name for name in base.rows if name not in head.rows]

    conditions = times.measuring_conditions(base, head, pairs)
    verdicts = times.compare_times(pairs, conditions, limits)
    same_key = not environment.key_differences(base.reproducibility_key, head.reproducibility_key)
    for base_row, head_row in pairs:
        row_limits = limits.for_row(head_row.name)
        verdicts += quality.compare_quality(base_row, head_row, same_key, row_limits, len(pairs))
    verdicts.sort(key=lambda verdict: OUTCOMES.index(verdict.outcome))

    return Comparison(
        verdicts=verdicts,
        added=added,
        removed=removed,
        machine_mismatch=conditions.machine_mismatch,
        noise=conditions.noise,
        drift=math.expm1(max(conditions.drift.values(), default=0.0)),
        without_samples=times.count_without_samples(pairs),
    )
