"""Samples that were taken in another process, for pytest-benchmark."""

from collections.abc import Iterator, Sequence


class ReplayTimer:
    """A timer that hands samples taken elsewhere to pytest-benchmark: it reads 0, then the sample, and so on."""

    def __init__(self) -> None:
        self._readings: Iterator[float] = iter(())

    def feed(self, seconds: Sequence[float]) -> None:
        """Replay these samples from here on."""
        self._readings = (reading for sample in seconds for reading in (0.0, sample))

    def __call__(self) -> float:
        """The next reading, in seconds."""
        return next(self._readings)
