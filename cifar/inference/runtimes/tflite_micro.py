"""TFLite files of integers in TFLite Micro, the interpreter of microcontrollers, built for this machine."""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import CifarError
from cifar.formats.tflite import operators
from cifar.inference.runtimes import Tensor

ARENA = re.compile(r"Arena allocation total (\d+) bytes")


class Session:
    """A file in its interpreter, which classifies single images.

    Its memory is one block, the arena, whose size is in `details`, with the kinds of operations that a program for a
    microcontroller must register.
    """

    delegated_share: float | None = None
    threads = 1
    provider = "TFLite Micro"

    def __init__(self, path: Path, threads: int, device: str) -> None:
        assert (threads, device) == (1, "cpu"), (threads, device)
        from tflite_micro.python.tflite_micro import runtime

        self._interpreter, _ = _with_native_text(lambda: runtime.Interpreter.from_file(str(path)))
        self.input = _tensor("image", self._interpreter.get_input_details(0))
        self.output = _tensor("output", self._interpreter.get_output_details(0))
        _, text = _with_native_text(self._interpreter.print_allocations)
        arena = ARENA.search(text)
        kinds = operators(path)
        self.details: dict[str, Any] = {"operations": ", ".join(kinds)}
        if arena:
            self.details["arena_bytes"] = int(arena.group(1))

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the output for a batch of the input's dtype and layout, image by image."""
        outputs = []
        for image in batch:
            self._interpreter.set_input(np.ascontiguousarray(image[np.newaxis]), 0)
            self._invoke()
            outputs.append(self._interpreter.get_output(0))
        return np.concatenate(outputs)

    def _invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except RuntimeError:  # once more, to learn why
            _with_native_text(self._interpreter.invoke)


def _with_native_text(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a call gives, and what native code writes to stderr meanwhile.

    Raises:
        CifarError: the call fails: with the first line of that text, which says why.
    """
    with tempfile.TemporaryFile() as captured:
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            result, failure = call(), None
        except Exception as error:  # says less than the text
            result, failure = None, error
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        captured.seek(0)
        text = captured.read().decode(errors="replace")
    if failure is not None:
        lines = text.strip().splitlines() or [str(failure)]
        raise CifarError(lines[0]) from failure
    return result, text


def _tensor(name: str, described: dict[str, Any]) -> Tensor:
    quantisation = described["quantization_parameters"]
    scale, zero_point = 0.0, 0
    if len(quantisation["scales"]):
        scale, zero_point = float(quantisation["scales"][0]), int(quantisation["zero_points"][0])
    shape = (None, *map(int, described["shape"][1:]))
    return Tensor(name, np.dtype(described["dtype"]), shape, scale, zero_point)
