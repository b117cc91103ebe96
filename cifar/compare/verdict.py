"""What a comparison says: a word on every quantity of every row."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cifar.metrics.statistics import Interval, Noise

Outcome = Literal["regressed", "improved", "inconclusive", "unchanged", "not comparable"]
OUTCOMES: tuple[Outcome, ...] = ("regressed", "improved", "inconclusive", "not comparable", "unchanged")
"""In the order in which they are shown."""

FALSE_ALARMS = 0.001  # asked of the tests, so that heavy tails too keep what is promised: 1 comparison in 100


@dataclass(frozen=True)
class Verdict:
    """What became of one quantity of one row.

    Attributes:
        row: its name.
        quantity: `time`, `accuracy`, `weights`, a column that is gated strictly, or `row`: whether it is there.
        base, head: its values (time: seconds, the median of all samples); None where it has no single number.
        change: head / base for times, a difference in points for accuracies; None machine_mismatch.
        interval: of the change, 95 %.
        p_value: of no change, corrected for the number of rows (Holm); None where nothing is tested.
        reason: in words, where the word alone does not say it.
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
        added, removed: rows that only the head, only the base has.
        machine_mismatch: in words, why times cannot be compared; None if they can.
        noise: what was learnt of it, by kind of row.
        drift: relative change of the machine's matrix peak from base to head, the largest over threads.
    """

    verdicts: list[Verdict]
    added: list[str]
    removed: list[str]
    machine_mismatch: str | None
    noise: dict[str, Noise] = field(default_factory=dict)
    drift: float = 0.0

    def count(self, outcome: Outcome) -> int:
        """How many verdicts have this word."""
        return sum(verdict.outcome == outcome for verdict in self.verdicts)

    def facts(self) -> dict[str, Any]:
        """The comparison ready for JSON."""
        noise = {
            kind: {
                "deviation": math.sqrt(found.variance),
                "df": found.df if math.isfinite(found.df) else None,
                "measured": found.measured,
            }
            for kind, found in self.noise.items()
        }
        return {
            "format_version": 1,
            "counts": {outcome: self.count(outcome) for outcome in OUTCOMES},
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "added": self.added,
            "removed": self.removed,
            "machine_mismatch": self.machine_mismatch,
            "noise": noise,
            "drift": self.drift,
        }
