"""What a session measured, and what it did not."""

from dataclasses import dataclass

from cifar.benchmark.session import Peak, PeakKey, Row


@dataclass(frozen=True)
class Missing:
    """A row that was not measured: its case, `failed` or `skipped`, and the reason."""

    case: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Measurements:
    """What a session measured.

    Attributes:
        rows: of every case that was measured.
        missing: the others.
        peaks: the matrix peak by number of threads and precision.
    """

    rows: list[Row]
    missing: list[Missing]
    peaks: dict[PeakKey, Peak]

    def of(self, kind: str) -> list[Row]:
        """Return the rows of a kind."""
        return [row for row in self.rows if row["kind"] == kind]
