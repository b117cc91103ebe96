"""What is called while a run is trained."""

from typing import Protocol

from cifar.runs.schemas import Epoch, Timing


class Callback(Protocol):
    """Is called while a run is trained."""

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """Called after every step or some of them.

        Args:
            epoch: counted from 1.
            images: how many of the epoch's images have been seen.
            loss: running mean over these images.
            accuracy: running mean over these images.
        """

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Called after every epoch, once its checkpoint is on disk."""


class SilentCallback:
    """A Callback that does nothing."""

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """Do nothing."""

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Do nothing."""
