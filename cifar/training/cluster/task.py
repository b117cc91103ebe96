"""A run of a grid as a command, and running it in a process of its own."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cifar.errors import BusyError, CifarError, StorageError, UsageError, last_line
from cifar.recipes import Recipe
from cifar.runs.run import Run, folder_of, require_empty
from cifar.system import files

POLL_SECONDS = 0.5
BUSY_SECONDS = 2.0  # at least, between two tries to train a run that another process trains
WAIT_FOREVER = -1.0
PR_SET_PDEATHSIG = 1  # Linux: the signal that a process gets when the one that started it dies


@dataclass(frozen=True)
class Task:
    """A run to train.

    Attributes:
        recipe: of the run.
        arguments: of `cifar train`, but for `--runs` and for `--recipe` of a file of the user's own.
        data_sha256: of the data.
        gpu: whether it trains on one.
        recipe_text: the content of the user's own recipe file, which other machines need not have.
        folder: in which the user called the command: `module:function` is imported from there.
    """

    recipe: Recipe
    arguments: tuple[str, ...]
    data_sha256: str
    gpu: bool = False
    recipe_text: str | None = None
    folder: Path | None = None

    @property
    def name(self) -> str:
        """Of the run."""
        return self.recipe.name

    @property
    def recipe_file(self) -> str:
        """The name of the user's own recipe file."""
        return f"{self.recipe.recipe}.toml"

    def command(self, recipes: str) -> list[str]:
        """Return the arguments of `cifar`, but for `--runs`; `recipes` is the folder of the user's recipe file."""
        own = ["--recipe", f"{recipes}/{self.recipe_file}"] if self.recipe_text is not None else []
        return ["train", *self.arguments, *own, "--quiet", "--train-only"]

    def is_finished(self, runs: Path) -> bool:
        """Whether the run is in a folder of runs, and finished.

        Raises:
            CifarError: it diverged.
            UsageError: its folder holds something else, or a run with this recipe on other data.
        """
        folder = folder_of(runs, self.recipe)
        if not (folder / "recipe.json").exists():
            if folder.is_dir():
                require_empty(folder)
            return False
        run = Run(folder)
        if run.recipe != self.recipe:
            return False
        if run.identity.data_sha256 != self.data_sha256:
            raise UsageError(f"{folder} holds another run: it was trained on other data. Nothing was changed.")
        if run.diverged:
            raise CifarError(f"{folder} diverged: {run.divergence}.")
        return run.finished

    def can_be_skipped(self, runs: Path) -> bool:
        """Whether the run is finished, with a network of ours: `cifar train` finds out if the user's own has changed.

        Raises:
            CifarError, UsageError: as of `is_finished`.
        """
        return ":" not in self.recipe.network and self.is_finished(runs)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        node: the machine that trains it.
        epoch: how many epochs are done.
        images_per_second: of the last of them; 0 before the first.
    """

    node: str
    epoch: int
    images_per_second: float


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        node: the machine that trained it.
        code: the exit code of `cifar train`.
        message: why it failed; empty where it did not.
    """

    node: str
    code: int
    message: str

    @classmethod
    def of(cls, error: CifarError | OSError, node: str = "") -> "Outcome":
        """Return how a task ended that raised an error."""
        code = error.exit_code if isinstance(error, CifarError) else StorageError.exit_code
        return cls(node, code, str(error))


def train(
    task: Task, runs: Path, variables: Mapping[str, str | None], report: Callable[[Progress], None] = lambda _: None
) -> Outcome:
    """Call `cifar train` for a run until it is finished, by this process or by another that has locked it.

    The process that trains ends with this one, so that the next may have its lock.

    Args:
        task: the run.
        runs: the folder for its folder.
        variables: environment variables of the process, instead of this one's; None removes one.
        report: is called with every epoch.
    """
    node = socket.gethostname()
    while not task.can_be_skipped(runs):
        code, message = _call_train(task, runs, node, variables, report)
        if code == BusyError.exit_code:
            _wait_for_lock(folder_of(runs, task.recipe))
        elif code != 0:
            return Outcome(node, code, message)
        elif not task.is_finished(runs):
            return Outcome(node, 1, "`cifar train` of that node trained another recipe: is its version the same?")
        else:
            break
    return Outcome(node, 0, "")


def _call_train(
    task: Task, runs: Path, node: str, variables: Mapping[str, str | None], report: Callable[[Progress], None]
) -> tuple[int, str]:
    """Call `cifar train` once; return its exit code, and its last message."""
    with tempfile.TemporaryFile() as stderr, tempfile.TemporaryDirectory(prefix="cifar-recipe-") as recipes:
        if task.recipe_text is not None:
            Path(recipes, task.recipe_file).write_text(task.recipe_text)
        process = subprocess.Popen(
            [sys.executable, "-m", "cifar", *task.command(recipes), "--runs", str(runs)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=task.folder if task.folder and task.folder.is_dir() else None,
            env=_environment({**variables, "KERAS_BACKEND": task.recipe.backend}),
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        try:
            _follow(process, folder_of(runs, task.recipe), node, report)
        finally:
            process.kill()
            process.wait()
        stderr.seek(0)
        message = last_line(stderr.read().decode(errors="replace")).removeprefix("error: ")
    if process.returncode < 0:
        message = f"the process was ended by {signal.Signals(-process.returncode).name} (out of memory?)."
    return process.returncode, message


def _wait_for_lock(folder: Path) -> None:
    """Wait until no process has locked a run: cheaper than to start a process that finds it locked."""
    time.sleep(BUSY_SECONDS)
    with suppress(OSError), files.lock(folder, timeout=WAIT_FOREVER):
        pass


def _environment(variables: Mapping[str, str | None]) -> dict[str, str]:
    environment = {**os.environ, **variables}
    return {name: value for name, value in environment.items() if value is not None}


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _follow(process: "subprocess.Popen[bytes]", folder: Path, node: str, report: Callable[[Progress], None]) -> None:
    """Report every epoch until the process ends."""
    known = -1
    while process.poll() is None:
        rates = _rates(folder)
        if len(rates) > known:
            known = len(rates)
            report(Progress(node, known, rates[-1] if rates else 0.0))
        time.sleep(POLL_SECONDS)


def _rates(folder: Path) -> list[float]:
    """Images per second of every epoch, of a run's timing.jsonl; none while there is no such file."""
    try:
        lines = (folder / "timing.jsonl").read_text().splitlines()
        return [float(json.loads(line)["images_per_second"]) for line in lines]
    except (OSError, ValueError, TypeError, KeyError):  # not there yet, damaged, or replaced at this moment
        return []
