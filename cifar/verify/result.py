"""What is options of a verification, and what it finds."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from cifar.errors import UsageError
from cifar.recipes import Recipe
from cifar.runs.run import Run
from cifar.runs.schemas import Epoch
from cifar.training.callback import Callback


class DifferenceError(Exception):
    """What was made again is not what was recorded; the message names the first difference."""


@dataclass(frozen=True)
class CheckOptions:
    """How a check is tried.

    Attributes:
        threads: of the arithmetic, which the caller has configured.
        make_callback: gives the Callback for a recipe that is trained again.
        epochs: how many of the run's epochs, from the first; None for what the check does by itself.
    """

    threads: int
    make_callback: Callable[[Recipe], AbstractContextManager[Callback]]
    epochs: int | None = None

    def epochs_of(self, run: Run, most: int | None = None) -> int:
        """How many epochs of a run to train again; `most` where nothing was options.

        Raises:
            UsageError: the run has not so many, or none.
        """
        done = len(run.history)
        wanted = self.epochs or min(done, most or done)
        if not 1 <= wanted <= done:
            raise UsageError(f"{run.path}: has {done} epochs to compare with, {max(wanted, 1)} were options for.")
        return wanted


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        result: `equal`, `different`, or `distance` where the conditions are others and equality is not claimed.
        message: what was compared, or the first difference, or how far off, in a sentence.
        epochs: how many were trained again; None where that is not the question.
        figures: the same in numbers.
    """

    result: Literal["equal", "different", "distance"]
    message: str
    epochs: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def compare_lines(recorded: Epoch, made: Epoch) -> None:
    """Compare two lines of history, field by field.

    Raises:
        DifferenceError: at the first that differs.
    """
    for name, there in recorded.model_dump().items():
        here = getattr(made, name)
        if here != there:
            raise DifferenceError(
                f"epoch {made.epoch}: {name} is {short(there)} in history.jsonl, {short(here)} here"
            )


def count(epochs: int) -> str:
    """`1 epoch`, `2 epochs`."""
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"


def short(value: object) -> str:
    """A value in words; of a digest, its first digits."""
    return f"{value[:16]}…" if isinstance(value, str) else f"{value}"
