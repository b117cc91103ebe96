"""The losses of a training's first batches: another machine hardly changes them, a bug in the training step does."""

from cifar.runs.schemas import Epoch, Timing
from cifar.training.callback import Callback

TOLERANCES = (0.0002, 0.0002, 0.001, 0.003, 0.008)
"""Of each batch's loss: rounding grows with every update. Five times the largest difference measured between machines
or between settings of one, and at least 0.0002: docs/reproducibility.md."""
STEPS = len(TOLERANCES)


class FirstLosses:
    """A Callback that notes the loss of each of the first STEPS batches, and passes everything on.

    Attributes:
        losses: as noted so far.
    """

    def __init__(self, callback: Callback) -> None:
        self.losses: list[float] = []
        self._callback = callback
        self._images = 0
        self._sum = 0.0

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """Note the loss of the last batch (`loss` is a running mean), and pass it on."""
        if len(self.losses) < STEPS:
            total = loss * images
            self.losses.append((total - self._sum) / (images - self._images))
            self._images, self._sum = images, total
        self._callback.step(epoch, images, loss, accuracy)

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Pass it on."""
        self._callback.epoch(line, timing)


def find_distance(name: str, expected: list[float], actual: list[float]) -> str | None:
    """Return a phrase about the first loss that is further from the expected one than its tolerance, or None."""
    if len(expected) != len(actual):
        return f"{name}: the losses of the first batches: {len(actual)} instead of {len(expected)}"
    for number, (before, after, tolerance) in enumerate(zip(expected, actual, TOLERANCES, strict=False), start=1):
        if not abs(after - before) <= tolerance:
            return f"{name}: the loss of batch {number} was {before:.5f}, is {after:.5f} (± {tolerance})"
    return None
