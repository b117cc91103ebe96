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
from typing import Any

from cifar.errors import BusyError, last_line
from cifar.recipes import Recipe
from cifar.runs.run import Run, folder_of
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
        arguments: of `cifar train`, but for `--runs`.
        gpu: whether it trains on one.
    """

    recipe: Recipe
    arguments: tuple[str, ...]
    gpu: bool = False

    @property
    def name(self) -> str:
        """Of the run."""
        return self.recipe.name

    def is_finished(self, runs: Path) -> bool:
        """Whether the run is in a folder of runs, and finished."""
        folder = folder_of(runs, self.recipe)
        if not (folder / "recipe.json").exists():
            return False
        run = Run(folder)
        return run.finished and run.recipe == self.recipe


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
    folder = folder_of(runs, task.recipe)
    command = [
        sys.executable,
        "-m",
        "cifar",
        "train",
        *task.arguments,
        "--runs",
        str(runs),
        "--quiet",
        "--train-only",
    ]
    while not task.is_finished(runs):
        with tempfile.TemporaryFile() as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=_environment(variables),
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
            try:
                _follow(process, folder, node, report)
            finally:
                process.kill()
                process.wait()
            stderr.seek(0)
            text = stderr.read().decode(errors="replace")
        if process.returncode == 0:
            break
        if process.returncode != BusyError.exit_code:
            return Outcome(node, process.returncode, last_line(text).removeprefix("error: "))
        _wait_for_lock(folder)
    return Outcome(node, 0, "")


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
        timings = _timings(folder)
        if len(timings) > known:
            known = len(timings)
            report(Progress(node, known, timings[-1]["images_per_second"] if timings else 0.0))
        time.sleep(POLL_SECONDS)


def _timings(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's timing.jsonl; none while there is no such file."""
    try:
        lines = (folder / "timing.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):  # not there yet, or replaced at this moment
        return []
