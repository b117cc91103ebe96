"""The check `interrupted`: a training that is killed at any moment, and resumed, ends with the same weights."""

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.runs.run import Run, locked_run, runs_in
from cifar.runs.schemas import Epoch, Identity, Timing
from cifar.system import environment
from cifar.system.child_process import ChildProcess, exchange, run_in_subprocess
from cifar.training import loop
from cifar.training.callback import Callback, SilentCallback
from cifar.verify.check_result import CheckOptions, CheckResult, DifferenceError, compare_histories, count_epochs

EPOCHS = 2  # of the run, unless the options name a number
KILLS = 3
MAX_DELAY = 0.2  # seconds from the step that was drawn to the kill: it may hit anything, a checkpoint included


@dataclass(frozen=True)
class Training:
    """A training in a child process.

    Attributes:
        folder: in which the run is, or will be.
        identity: of the run.
        data: whole.
        device: `cpu` or `gpu`.
        epochs: how many of the recipe's are trained.
    """

    folder: Path
    identity: Identity
    data: Dataset
    device: str
    epochs: int

    @property
    def images_per_epoch(self) -> int:
        """How many training images the recipe uses."""
        return len(self.data.head(self.identity.recipe.train_images).x_train)


def check(run: Run, data: Dataset, options: CheckOptions) -> CheckResult:
    """Train a run's first epochs in processes that are killed (SIGKILL) on the way, and compare the history."""
    mismatches = loop.environment_mismatches(run, options.threads)
    if mismatches:
        raise UsageError(
            f"{run.path}: cannot compare with its history: the environment differs: {'; '.join(mismatches)}."
        )
    epochs = options.epochs_to_train(run, default=EPOCHS)
    identity = Identity.of(run.recipe, data.sha256, run.identity.network_sha256)
    with tempfile.TemporaryDirectory(prefix="cifar-verify-") as scratch:
        training = Training(Path(scratch), identity, data, run.environment.get("device", "cpu"), epochs)
        kills = []
        with options.show_progress("Training, killed on the way", KILLS + 1) as advance:
            for moment in draw_moments(epochs * training.images_per_epoch):
                if train_and_kill(training, moment):
                    kills.append(moment)
                advance()
            run_in_subprocess(_train, training, None)
        (resumed,) = runs_in(training.folder)
        figures = {"moments": kills}
        try:
            compare_histories(run.history, resumed.history)
        except DifferenceError as difference:
            return CheckResult("different", f"killed {len(kills)} times, {difference}", epochs, figures)
    message = (
        f"killed {len(kills)} times and resumed, weights and history of {count_epochs(epochs)} "
        "are the same, to the bit"
    )
    return CheckResult("equal", message, epochs, figures)


def draw_moments(images: int) -> list[int]:
    """Return after how many of a training's images to kill it: one drawn from each third, so that work is lost."""
    part = images // KILLS
    return [random.randrange(k * part, (k + 1) * part) for k in range(KILLS)]


def train_and_kill(training: Training, moment: int) -> bool:
    """Train, from the checkpoint if there is one, and kill the process a little after a moment.

    Args:
        training: what the process trains.
        moment: the number of images, counted from the beginning of the training.

    Returns:
        Whether the process was alive when it was killed.
    """
    with ChildProcess(_train, training, moment) as child:
        child.receive()
        if child.finished:
            return False
        child.resume()
        time.sleep(random.uniform(0, MAX_DELAY))
        return child.kill() != 0


def _train(training: Training, moment: int | None) -> None:
    """Train a run's first epochs; tell the parent when a moment is reached. The function of the child process."""
    recipe = training.identity.recipe
    environment.configure(recipe.threads, training.device, recipe.backend)
    callback: Callback = SilentCallback()
    if moment is not None:
        callback = _MomentCallback(moment, training.images_per_epoch)
    with locked_run(training.folder, training.identity) as run:
        loop.train(run, training.data, callback, last_epoch=training.epochs)


class _MomentCallback:
    """A Callback that sends a message to the parent process once, when a number of images has been seen."""

    def __init__(self, moment: int, images_per_epoch: int) -> None:
        self._moment = moment
        self._images_per_epoch = images_per_epoch
        self._sent = False

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:  # noqa: ARG002
        """Send the message at the first step at or after the moment."""
        seen = (epoch - 1) * self._images_per_epoch + images
        if seen >= self._moment and not self._sent:
            self._sent = True
            exchange("moment")

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Do nothing."""
