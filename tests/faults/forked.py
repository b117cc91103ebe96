"""Processes forked from one in which the frameworks are loaded, which saves the seconds of loading them."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from conftest import isolated

PATIENCE = 600.0  # seconds: a process that takes longer hangs
FORKING = multiprocessing.get_context("forkserver")
if sys.platform == "linux":  # elsewhere a process that has loaded them cannot be forked
    FORKING.set_forkserver_preload(["tensorflow", "keras", "matplotlib.figure", "cifar.training.grid", "cifar.cli"])


class Forked:
    """A function that runs in a process of its own, the head of a group, in a home and an isolated environment.

    Args:
        home: its current folder; temporary files go to tmp/ in it, its output to output/.
        function: of a module.
        arguments: of the function.
        variables: of its environment.
    """

    def __init__(self, home: Path, function: Callable[..., object], *arguments: object, **variables: str) -> None:
        for name in ("tmp", "output"):
            (home / name).mkdir(exist_ok=True)
        self._out, self._err = (Path(tempfile.mkstemp(dir=home / "output")[1]) for _ in range(2))
        environment = isolated(home, **{"TMPDIR": str(home / "tmp"), **variables})
        self._process = FORKING.Process(
            target=_begin, args=(home, self._out, self._err, environment, function, arguments)
        )
        self._process.start()

    @property
    def out(self) -> str:
        """Its stdout so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Its stderr so far."""
        return self._err.read_text()

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def end(self) -> int:
        """Wait until it has ended, and return its exit code."""
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None, f"it got stuck: {self.err}"
        return self._process.exitcode

    def kill(self) -> int:
        """Kill it and the processes that it started (SIGKILL), and return its exit code."""
        assert self._process.pid
        os.killpg(self._process.pid, signal.SIGKILL)
        return self.end()


def cifar(home: Path, *arguments: str, **variables: str) -> Forked:
    """Start `cifar` in a home."""
    return Forked(home, _cifar, *arguments, **variables)


def _begin(
    home: Path, out: Path, err: Path, environment: dict[str, str], function: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:  # fmt: skip
    os.setsid()
    os.chdir(home)
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY), stream)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # so that TMPDIR is read again
    function(*arguments)


def _cifar(*arguments: str) -> None:
    from cifar import cli

    sys.argv = ["cifar", *arguments]
    sys.path.insert(0, "")  # as `python -m cifar` has it
    cli.main()
