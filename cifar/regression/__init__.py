"""Verdicts on two results of the benchmarks: regressed, improved, unchanged, or cannot tell.

Quality is gated strictly where it must be the same to the bit, else by tests on counts of images. Times are compared
by the medians of repeated measurements; what is typical noise is learnt from all rows of a kind, and the number of
rows is corrected for, so that a comparison without a difference seldom cries wolf.
"""

import math

from cifar.regression import quality, times
from cifar.regression.limits import Limits
from cifar.regression.verdict import WORDS, Comparison
from cifar.results import Result


def compare(base: Result, head: Result, limits: Limits | None = None) -> Comparison:
    """Compare two results row by row."""
    limits = limits or Limits()
    pairs = [(base.rows[name], row) for name, row in head.rows.items() if name in base.rows]
    elsewhere = times.elsewhere(base, head)
    noise = {} if elsewhere else times.noise(pairs)
    drift = {row.name: times.drift(base, head, row) for _, row in pairs}
    verdicts = times.judge(pairs, noise, drift, limits, elsewhere)
    same_key = base.key == head.key
    for before, after in pairs:
        verdicts += quality.judge(before, after, same_key, limits.of(after.name), len(pairs))
    return Comparison(
        verdicts=sorted(verdicts, key=lambda verdict: WORDS.index(verdict.word)),
        added=[name for name in head.rows if name not in base.rows],
        removed=[name for name in base.rows if name not in head.rows],
        elsewhere=elsewhere,
        noise=noise,
        drift=math.expm1(max(drift.values(), default=0.0)),
    )
