"""A model file in a program of its own, such as Node or a browser: it is sent batches, and times itself.

Both sides write messages: a line of JSON, whose `bytes` says how many bytes follow it. The program's first says what
it has loaded; then it replies to each batch. It ends when its input does. A message with `error` is its last.
"""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from cifar.errors import CifarError, last_line
from cifar.inference.runtimes import Tensor, class_output, single

DETAILS = ("host", "clock_resolution", "wasm_bytes")


class ProgramSession:
    """A model file that a program has loaded.

    Args:
        command: of the program.
        name: of what runs the file.

    Attributes:
        provider: what runs the file.
        threads: that compute.
        seconds: that all calls took so far, as the program measured them.
        details: what else it says of itself.
        stdout: what it writes.
    """

    delegated_share: float | None = None
    threads: int

    def __init__(self, command: Sequence[str], name: str) -> None:
        self.provider = name
        self.seconds = 0.0
        self.details: dict[str, Any] = {}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the program
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr)
        assert self._process.stdout is not None
        self.stdout = self._process.stdout

    def processes(self) -> list[psutil.Process]:
        """Return the program and those that it has started."""
        program = psutil.Process(self._process.pid)
        return [program, *program.children(recursive=True)]

    def write(self, content: bytes) -> None:
        """Send bytes; to a program that has ended they are lost, and what it said last says why."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(content)
            self._process.stdin.flush()

    def close(self) -> None:
        """End the program; it does so by itself when this process ends."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._stderr.close()

    def failure(self) -> CifarError:
        """Return why a program has ended that should not have."""
        code = self._process.wait()
        self._stderr.seek(0)
        text = self._stderr.read().decode(errors="replace")
        return CifarError(last_line(text, f"{self.provider} ended with code {code}"))


class MessageSession(ProgramSession):
    """A model file that a program has loaded with which messages are exchanged; arguments as of ProgramSession."""

    def __init__(self, command: Sequence[str], name: str) -> None:
        super().__init__(command, name)
        facts, _ = self._receive()
        self.threads = int(facts["threads"])
        self.details = {name: facts[name] for name in DETAILS if name in facts}
        self.input = _tensor(single("input", facts["inputs"]))
        self.output = class_output(list(map(_tensor, facts["outputs"])))

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the output for a batch of the input's dtype and layout.

        Raises:
            CifarError: the program failed, or ended.
        """
        request = {"output": self.output.name, "shape": batch.shape}
        self.write(encode_message(request, np.ascontiguousarray(batch).tobytes()))
        reply, content = self._receive()
        self.seconds += reply["seconds"]
        return np.frombuffer(content, reply["dtype"]).reshape(reply["shape"])

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        message, content = read_message(self.stdout)
        if message is None:
            raise self.failure()
        if "error" in message:
            raise CifarError(str(message["error"]))
        return message, content


def encode_message(message: dict[str, Any], content: bytes = b"") -> bytes:
    """Return a message as it is sent, with the bytes that belong to it."""
    line = json.dumps({**message, "bytes": len(content)}) + "\n"
    return line.encode() + content


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any] | None, bytes]:
    """Read a message and its bytes; None at the end of the stream."""
    line = stream.readline()
    if not line:
        return None, b""
    message: dict[str, Any] = json.loads(line)
    return message, stream.read(message["bytes"])


def _tensor(described: dict[str, Any]) -> Tensor:
    return Tensor(described["name"], np.dtype(described["dtype"]), tuple(described["shape"]))
