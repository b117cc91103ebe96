"""The outcome of a comparison: a verdict on every quantity of every row."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cifar.metrics.statistics import Interval, Noise

FORMAT_VERSION = 2  # of `cifar compare --json`

Outcome = Literal["regressed", "improved", "inconclusive", "unchanged", "not comparable"]
OUTCOMES: tuple[Outcome, ...] = ("regressed", "improved", "inconclusive", "not comparable", "unchanged")
"""In the order in which they are shown."""

FALSE_ALARM_RATE = 0.001
"""Significance level of the tests.

So strict that 1 comparison in 100 at most errs where both sides have several sessions, even with heavy-tailed noise.
"""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one quantity of one row.

    Attributes:
        row: its name.
        quantity: `time`, `accuracy`, `weights`, a column of `quality.STRICT_COLUMNS`, or `row`: whether it exists.
        outcome: what the comparison concludes.
        base, head: its values (time: seconds, the median of all samples); None where it has no single number.
        change: head / base for times, a difference in percentage points for accuracies; else None.
        interval: 95 % interval of the change.
        p_value: of no change, corrected for the number of rows (Holm); None where nothing is tested.
        reason: why, where the outcome alone does not say it; a clause without a full stop.
    """

    row: str
    quantity: str
    outcome: Outcome
    base: float | None = None
    head: float | None = None
    change: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """All verdicts on two results.

    Attributes:
        verdicts: in the order of OUTCOMES, then of the rows.
        added, removed: names of rows that only the head, only the base has.
        machine_mismatch: why times cannot be compared; None if they can.
        noise: the noise of times between sessions, by kind of row.
        drift: relative change of the machine's matrix peak from base to head, the largest over all thread counts.
        without_samples: of `base` and `head`, the rows without the samples that a comparison of times needs.
    """

    verdicts: list[Verdict]
    added: list[str]
    removed: list[str]
    machine_mismatch: str | None
    noise: dict[str, Noise] = field(default_factory=dict)
    drift: float = 0.0
    without_samples: dict[str, int] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> int:
        """The number of verdicts with this outcome."""
        return sum(verdict.outcome == outcome for verdict in self.verdicts)

    def facts(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        noise = {}
        for kind, estimate in self.noise.items():
            df = None
            if math.isfinite(estimate.df):
                df = estimate.df
            noise[kind] = {"deviation": math.sqrt(estimate.variance), "df": df, "measured": estimate.measured}
        counts = {}
        for outcome in OUTCOMES:
            counts[outcome] = self.count(outcome)
        return {
            "format_version": FORMAT_VERSION,
            "counts": counts,
            "verdicts": list(map(asdict, self.verdicts)),
            "added": self.added,
            "removed": self.removed,
            "machine_mismatch": self.machine_mismatch,
            "noise": noise,
            "drift": self.drift,
            "without_samples": self.without_samples,
        }
