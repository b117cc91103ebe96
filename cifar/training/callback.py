"""What a training run tells while it goes on."""

from typing import Protocol

from cifar.runs.schemas import Epoch, Timing


class Callback(Protocol):
    """Is told how a run goes on."""

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """After every step or some of them: the epoch, how many of its images are done, its running means."""

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """After every epoch, once its checkpoint is on disk."""


class SilentCallback:
    """A Callback that does nothing."""

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """Do nothing."""

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Do nothing."""
