"""A function in a Python interpreter of its own: one runtime per process, a hard kill, a time limit.

The parent pickles the function and its arguments to the child. The child writes one JSON object per line: messages
that the function sends with `exchange`, and at last its result or its error. The parent never unpickles anything, so
a child that loads an untrusted model file cannot run code in the parent.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from threading import Timer
from types import TracebackType
from typing import Any

from cifar.errors import CifarError, first_line, last_line, printable

MAX_REASON = 300  # characters of a child's own words that are passed on


class ChildError(CifarError):
    """A child process failed: it raised an unexpected error, died, or took too long. Exit code 1.

    Attributes:
        reason: the message without the name of the function.
    """

    def __init__(self, reason: str, function: str) -> None:
        super().__init__(f"{function}: {reason}")
        self.reason = reason


class ChildProcess:
    """Run a function in a fresh interpreter; use it as a context manager, which kills the child at its end.

    Args:
        function: a function of an importable module; its result must be JSON.
        *args: pickled for the child.
        variables: environment variables of the child, beside those of this process.
        **kwargs: pickled for the child.

    Attributes:
        finished: whether the result was received.
    """

    def __init__(
        self, function: Callable[..., Any], /, *args: Any, variables: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        self.finished = False
        self._name = function.__name__.strip("_").replace("_", " ")
        self._timed_out = False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            python_command("cifar.system.child_process", "serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **(variables or {})},
        )
        self._send(pickle.dumps((function, args, kwargs)))

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._stderr.close()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def kill(self) -> int:
        """Kill the child and what it has started (SIGKILL).

        Returns:
            Its exit code; negative: the signal that ended it.
        """
        self._kill_all()
        self._process.communicate()
        return self._process.returncode

    def receive(self, timeout: float | None = None) -> Any:
        """Wait for the next message, or for the result, which sets `finished`.

        Args:
            timeout: seconds; the child is killed if it takes longer.

        Raises:
            CifarError: what the child raised, in the same class where this process knows it.
            ChildError: the child raised anything else, died or took too long.
        """
        line = self._read_line(timeout)
        try:
            message = json.loads(line)
        except ValueError:
            raise ChildError(self._reason_of_death(timeout), self._name) from None
        if "error" in message:
            kind = _error_class(message["error"])
            raise kind(message["text"]) if kind else ChildError(message["text"], self._name)
        self.finished = "result" in message
        return message["result"] if self.finished else message["message"]

    def resume(self) -> None:
        """Let a child go on that waits after a message."""
        self._send(b"\n")

    def _read_line(self, timeout: float | None) -> bytes:
        assert self._process.stdout is not None
        if timeout is None:
            return self._process.stdout.readline()
        timer = Timer(timeout, self._kill_after_timeout)
        timer.start()
        try:
            return self._process.stdout.readline()
        finally:
            timer.cancel()

    def _kill_after_timeout(self) -> None:
        self._timed_out = True
        self._kill_all()

    def _kill_all(self) -> None:
        import psutil  # no part of a cold start

        started = []
        with contextlib.suppress(psutil.NoSuchProcess):
            started = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _send(self, content: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(content)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):  # the child died or was killed; `receive` says why
            pass

    def _reason_of_death(self, timeout: float | None) -> str:
        if self._timed_out:
            return f"no result within {timeout:g} s"
        code = self._process.wait()
        if code < 0:
            return f"the process was ended by signal {-code}"
        self._stderr.seek(0)
        text = self._stderr.read().decode(errors="replace")
        return shorten(last_line(text, f"the process ended with code {code}"))


def python_command(module: str, function: str) -> list[str]:
    """Return the command that calls a function in a fresh interpreter, which finds modules where this one does."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import {function}; {function}()"
    return [sys.executable, "-c", code]


def run_in_subprocess(
    function: Callable[..., Any],
    /,
    *args: Any,
    timeout: float | None = None,
    variables: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> Any:
    """Call a function in a fresh interpreter and return its result; arguments and errors as of ChildProcess."""
    with ChildProcess(function, *args, variables=variables, **kwargs) as child:
        return child.receive(timeout)


def shorten(reason: str) -> str:
    """Return the words of a library or a child as one short line without a full stop."""
    return printable(reason.strip(), MAX_REASON).rstrip(".")


def exchange(message: Any) -> None:
    """In a child: send a message, and wait until the parent resumes; the process ends if the parent is gone."""
    _write({"message": message})
    if not sys.stdin.buffer.readline():
        sys.exit()


def serve() -> None:
    """In a child: call the function that stands on stdin, and write its result or its error."""
    global _stdout
    _stdout = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no message
    try:
        function, args, kwargs = pickle.load(sys.stdin.buffer)
        _write({"result": function(*args, **kwargs)})
        return
    except CifarError as error:
        message = {"error": type(error).__name__, "text": str(error)}
    except Exception as error:  # one sentence: the parent goes on without this child
        message = {"error": "", "text": f"{type(error).__name__}: {first_line(error)}"}
    _write(message)


_stdout = 1


def _write(message: dict[str, Any]) -> None:
    line = json.dumps(message) + "\n"
    with os.fdopen(os.dup(_stdout), "w") as stream:
        stream.write(line)


def _error_class(name: str) -> type[CifarError] | None:
    """Return the class of the errors a user can cause that has this name; None where this process knows none."""
    kinds: list[type[CifarError]] = [CifarError]
    for kind in kinds:  # grows while it is read: every subclass is visited
        if kind.__name__ == name and kind is not ChildError:
            return kind
        kinds += kind.__subclasses__()
    return None
