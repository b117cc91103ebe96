"""The options of a check, its result, and the comparison of two epochs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from cifar.errors import UsageError
from cifar.recipes import Recipe
from cifar.runs.run import Run
from cifar.runs.schemas import Epoch
from cifar.training.callback import Callback


class DifferenceError(Exception):
    """A repeated result differs from the recorded one; the message names the first difference."""


@contextmanager
def no_progress(description: str, steps: int) -> Iterator[Callable[[], None]]:  # noqa: ARG001
    """Show nothing: yield a function that is called after each of some steps."""
    yield lambda: None


@dataclass(frozen=True)
class CheckOptions:
    """How a check is run.

    Attributes:
        threads: of every operation; the caller has configured the backend with them.
        make_callback: returns the Callback for a recipe that is trained again.
        epochs: how many of the run's epochs, from the first; None for the check's default.
        show_progress: shows a description and a number of steps while a block runs, and yields the function that the
            block calls after each step.
    """

    threads: int
    make_callback: Callable[[Recipe], AbstractContextManager[Callback]]
    epochs: int | None = None
    show_progress: Callable[[str, int], AbstractContextManager[Callable[[], None]]] = no_progress

    def epochs_to_train(self, run: Run, default: int | None = None) -> int:
        """Return how many epochs of a run to train again.

        Args:
            run: which has a history of so many epochs or more.
            default: used if the options name no number and the run is that long; None for all of the run's epochs.

        Raises:
            UsageError: the run has fewer epochs, or none.
        """
        available = len(run.history)
        epochs = self.epochs or min(available, default or available)
        if not 1 <= epochs <= available:
            raise UsageError(f"{run.path}: has {available} epochs to compare with, {max(epochs, 1)} were requested.")
        return epochs


@dataclass(frozen=True)
class CheckResult:
    """The result of a check.

    Attributes:
        result: `equal`, `different`, or `distance` if the environment differs, so that equality is not expected.
        message: what was compared, the first difference, or the distance, in a sentence.
        epochs: how many were trained again; None where the check trains none.
        figures: the same in numbers.
    """

    result: Literal["equal", "different", "distance"]
    message: str
    epochs: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BaselineResult:
    """The comparison of results with committed ones, by reproducibility key.

    Attributes:
        differences: a phrase for everything that differs: under a known key from the same bits, else by more than
            another machine explains.
        key_differences: how this machine's key differs from the closest of those that are committed; none if it is
            known.
    """

    differences: list[str]
    key_differences: list[str]

    @property
    def outcome(self) -> Literal["equal", "within tolerance", "different"]:
        """What was concluded; only a known key can give `equal`."""
        if self.differences:
            return "different"
        if self.key_differences:
            return "within tolerance"
        return "equal"


def compare_epochs(recorded: Epoch, repeated: Epoch) -> None:
    """Compare two lines of history, field by field.

    Raises:
        DifferenceError: at the first field that differs.
    """
    for name, recorded_value in recorded.model_dump().items():
        repeated_value = getattr(repeated, name)
        if repeated_value != recorded_value:
            raise DifferenceError(
                f"epoch {repeated.epoch}: {name} is {abbreviate(recorded_value)} in history.jsonl, "
                f"{abbreviate(repeated_value)} here"
            )


def compare_histories(recorded: Sequence[Epoch], repeated: Sequence[Epoch]) -> None:
    """Compare two histories, epoch by epoch, as far as the shorter one goes.

    Raises:
        DifferenceError: at the first field that differs.
    """
    for recorded_epoch, repeated_epoch in zip(recorded, repeated, strict=False):
        compare_epochs(recorded_epoch, repeated_epoch)


def count_epochs(number: int) -> str:
    """Return `1 epoch`, `2 epochs`."""
    if number == 1:
        return "1 epoch"
    return f"{number} epochs"


def abbreviate(value: object) -> str:
    """Return a value as text; of a digest, its first 16 digits."""
    if isinstance(value, str):
        return f"{value[:16]}…"
    return f"{value}"
