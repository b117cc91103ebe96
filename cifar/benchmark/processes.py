"""Asking other processes: nothing that is timed runs in pytest's own, and no framework is loaded there."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import IO, Any

from cifar.errors import CifarError, last_line

ROOT = Path(__file__).parent.parent
PATIENCE = 600  # seconds for any answer
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


class FailedError(CifarError):
    """Another process ended badly.

    Attributes:
        exit_code: its own; 1 where it was killed or gave no answer.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Worker:
    """A process of cifar.benchmark.worker that does one job.

    Args:
        job: a key of cifar.benchmark.worker.JOBS.
        threads: of every library that takes their number from the environment.
        arguments: of the job.
    """

    def __init__(self, job: str, threads: int, /, **arguments: Any) -> None:
        self._job = job
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cifar.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**_environment(), **dict.fromkeys(THREADS, str(threads))},
        )
        self._tell({"do": job, "arguments": arguments})

    def answer(self) -> Any:
        """Wait for the job's next answer.

        Raises:
            FailedError: it failed, died or took too long; with one sentence.
        """
        assert self._process.stdout is not None
        expired = Timer(PATIENCE, self._process.kill)
        expired.start()
        try:
            line = self._process.stdout.readline()
        finally:
            expired.cancel()
        if not line:
            raise _failure(f"cifar.benchmark.worker, {self._job}", self._process.wait(), self._errors)
        return json.loads(line)

    def go_on(self) -> None:
        """Let a job that waits after its answer go on."""
        self._tell({})

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # it died; its answer will say so
            pass

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def ask(job: str, threads: int, /, **arguments: Any) -> Any:
    """Let a new worker do a job that has one answer, and return that; arguments and errors as of Worker."""
    with Worker(job, threads, **arguments) as worker:
        return worker.answer()


def cifar(*arguments: str) -> None:
    """Run a `cifar` command.

    Raises:
        FailedError: it failed, died or took too long; with one sentence.
    """
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "cifar", *arguments]
        try:
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=errors, timeout=PATIENCE, env=_environment(), check=False
            )
        except subprocess.TimeoutExpired:
            raise FailedError(f"cifar {arguments[0]} took more than {PATIENCE} s") from None
        if done.returncode != 0:
            raise _failure(f"cifar {arguments[0]}", done.returncode, errors)


def _failure(who: str, code: int, errors: IO[str]) -> FailedError:
    """What the last line on a process's stderr, or the signal that ended it, says."""
    if code < 0:
        return FailedError(f"{who} was ended by signal {-code}, or after {PATIENCE} s without an answer")
    errors.seek(0)
    return FailedError(last_line(errors.read()).removeprefix("error: "), code)


def _environment() -> dict[str, str]:
    """This process's environment, with bench/ in reach from any folder."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
