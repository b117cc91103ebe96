"""Verdicts on two results of the benchmarks: regressed, improved, unchanged, or cannot tell.

Quality is gated strictly where it must be the same to the bit, else by tests on counts of images. Times are compared
by the medians of repeated measurements; what is typical noise is learnt from all rows of a kind, and the number of
rows is corrected for, so that a comparison without a difference seldom cries wolf.
"""

import math

from cifar.compare import quality, times
from cifar.compare.limits import Limits
from cifar.compare.results import Result
from cifar.compare.verdict import OUTCOMES, Comparison


def compare_results(base: Result, head: Result, limits: Limits | None = None) -> Comparison:
    """Compare two results row by row."""
    limits = limits or Limits()
    pairs = [(base.rows[name], row) for name, row in head.rows.items() if name in base.rows]
    machine_mismatch = times.machine_mismatch(base, head)
    noise = {} if machine_mismatch else times.noise(pairs)
    drift = {row.name: times.drift(base, head, row) for _, row in pairs}
    verdicts = times.compare_times(pairs, noise, drift, limits, machine_mismatch)
    same_key = base.key == head.key
    for before, after in pairs:
        verdicts += quality.compare_quality(before, after, same_key, limits.of(after.name), len(pairs))
    return Comparison(
        verdicts=sorted(verdicts, key=lambda verdict: OUTCOMES.index(verdict.outcome)),
        added=[name for name in head.rows if name not in base.rows],
        removed=[name for name in base.rows if name not in head.rows],
        machine_mismatch=machine_mismatch,
        noise=noise,
        drift=math.expm1(max(drift.values(), default=0.0)),
    )
