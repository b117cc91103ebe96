"""Killed at any moment and resumed any number of times: the same weights as the untouched run."""

import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from cifar.data.dataset import Dataset
from cifar.errors import CifarError, UsageError
from cifar.runs.run import Run, locked_run, runs_in
from cifar.runs.schemas import Epoch, Identity, Timing
from cifar.system import environment
from cifar.training import loop
from cifar.verify.result import CheckOptions, CheckResult, DifferenceError, compare_lines, count

Started = tuple[multiprocessing.context.SpawnProcess, "Synchronized[int]"]
Start = Callable[[], Started]

EPOCHS = 2  # of a run, if nothing else is options
KILLS = 3
MAX_DELAY = 0.2  # seconds from the step that was drawn to the kill: it may fall anywhere, a checkpoint included


def check(run: Run, data: Dataset, options: CheckOptions) -> CheckResult:
    """Train a run's first epochs in processes that are killed (SIGKILL) on the way, and compare the history."""
    others = loop.environment_mismatches(run, options.threads)
    if others:
        raise UsageError(f"{run.path}: what is resumed here is compared with its history; but {'; '.join(others)}.")
    epochs = options.epochs_of(run, most=EPOCHS)
    recipe = run.recipe.model_copy(update={"epochs": epochs})
    identity = Identity.of(recipe, data.sha256, run.identity.network_sha256)
    images = epochs * len(data.head(recipe.train_images).x_train)
    with tempfile.TemporaryDirectory(prefix="cifar-verify-") as scratch:
        start = partial(_start, scratch, identity, data, run.environment.get("device", "cpu"))
        moments = [moment for moment in _moments(images) if _killed_at(moment, start)]
        _finish(start)
        try:
            for recorded, made in zip(run.history, runs_in(Path(scratch))[0].history, strict=False):
                compare_lines(recorded, made)
        except DifferenceError as difference:
            return CheckResult(
                "different", f"killed {len(moments)} times, {difference}", epochs, {"moments": moments}
            )
    words = (
        f"killed {len(moments)} times and resumed, weights and history of {count(epochs)} are the same, to the bit"
    )
    return CheckResult("equal", words, epochs, {"moments": moments})


def _moments(images: int) -> list[int]:
    """After how many images of the whole training to kill, one draw from each third, so that each kill does harm."""
    part = images // KILLS
    return [random.randrange(k * part, (k + 1) * part) for k in range(KILLS)]


def _killed_at(moment: int, start: Start) -> bool:
    """Train until so many images were seen, and kill; whether the process was still alive then."""
    process, seen = start()
    while seen.value < moment and process.is_alive():
        time.sleep(0.001)
    time.sleep(random.uniform(0, MAX_DELAY))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _finish(start: Start) -> None:
    process, _ = start()
    process.join()
    if process.exitcode != 0:
        raise CifarError(f"The resumed training ended with exit code {process.exitcode}.")


def _start(scratch: str, identity: Identity, data: Dataset, device: str) -> Started:
    spawn = multiprocessing.get_context("spawn")
    seen = spawn.Value("q", 0)
    process = spawn.Process(target=_train, args=(scratch, identity, data, device, seen))
    process.start()
    return process, seen


def _train(scratch: str, identity: Identity, data: Dataset, device: str, seen: "Synchronized[int]") -> None:
    """Train, from the checkpoint where there is one: what the child process does."""
    recipe = identity.recipe
    try:
        environment.configure(recipe.threads, device, recipe.backend)
        with locked_run(Path(scratch), identity) as run:
            loop.train(run, data, _Counting(seen, len(data.head(recipe.train_images).x_train)))
    except CifarError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@dataclass(frozen=True)
class _Counting:
    """A Callback that counts the images of the whole training in memory shared with the parent."""

    seen: "Synchronized[int]"
    images: int

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:  # noqa: ARG002
        """Count."""
        self.seen.value = (epoch - 1) * self.images + images

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Nothing to count."""
