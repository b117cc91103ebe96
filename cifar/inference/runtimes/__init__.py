"""The runtimes, as data, and what a model file is in one of them: a session with one input and one output.

A module per runtime; each serves our files and external ones.
"""

import importlib
import importlib.metadata
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.formats import FORMATS
from cifar.metrics.classification import CLASSES


@dataclass(frozen=True)
class Runtime:
    """A runtime, in a precision.

    Attributes:
        distribution: the package that pip installs.
        import_name: the module that it is imported by.
        module_name: the module here that knows it.
        formats: the keys of FORMATS whose files it reads.
        extra: the extra of this project that installs it; None: always installed.
        precision: in which it computes what a file has in float32; as read back from it.
    """

    distribution: str
    import_name: str
    module_name: str
    formats: tuple[str, ...]
    extra: str | None = None
    precision: str = "float32"

    @property
    def is_installed(self) -> bool:
        """Whether its package is here; nothing is imported."""
        return importlib.util.find_spec(self.import_name.partition(".")[0]) is not None

    @property
    def version(self) -> str:
        """The version that is installed."""
        return importlib.metadata.version(self.distribution)


TFLITE_FORMATS = ("tflite", "tflite-float16", "tflite-int8")
ONNX_FORMATS = ("onnx", "onnx-int8")
RUNTIMES: dict[str, Runtime] = {
    "tensorflow": Runtime("tensorflow", "tensorflow", "tensorflow", ("saved-model",)),
    "ai-edge-litert": Runtime("ai-edge-litert", "ai_edge_litert.interpreter", "litert", TFLITE_FORMATS),
    "onnxruntime": Runtime("onnxruntime", "onnxruntime", "onnxruntime", ONNX_FORMATS),
    "openvino": Runtime("openvino", "openvino", "openvino", tuple(FORMATS), "openvino"),
    "openvino-bfloat16": Runtime("openvino", "openvino", "openvino", tuple(FORMATS), "openvino", "bfloat16"),
}
"""By the name that `--runtime` takes. A format's own runtime, in which its files are checked, is in FORMATS."""


@dataclass(frozen=True)
class Tensor:
    """An input or an output of a model.

    Attributes:
        name: in the file.
        dtype: of its elements.
        shape: None where an axis is free.
        scale, zero_point: value = scale * (element - zero_point); scale 0 if it is not quantised.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    scale: float = 0.0
    zero_point: int = 0

    @property
    def size(self) -> int:
        """The number of elements of one image; free axes count as 1."""
        return math.prod(side or 1 for side in self.shape[1:])

    @property
    def value_range(self) -> tuple[float, float]:
        """The smallest and the largest value that a quantised tensor can hold."""
        limits = np.iinfo(self.dtype)
        return self.scale * (limits.min - self.zero_point), self.scale * (limits.max - self.zero_point)

    def quantise(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return the nearest elements to some values."""
        limits = np.iinfo(self.dtype)
        elements = np.round(values / np.float32(self.scale) + np.float32(self.zero_point))
        return np.clip(elements, limits.min, limits.max).astype(self.dtype)

    def dequantise(self, elements: NDArray[Any]) -> NDArray[np.float32]:
        """Return the values of some elements."""
        if not self.scale:
            return elements.astype(np.float32)
        return np.float32(self.scale) * (elements.astype(np.float32) - np.float32(self.zero_point))

    @property
    def shape_text(self) -> str:
        """The shape as people write it, such as (N, 32, 32, 3)."""
        sides = ["N" if side is None else str(side) for side in self.shape]
        return f"({', '.join(sides)})"


class RuntimeSession(Protocol):
    """A model file in its runtime; a file that keeps our contract is a Predictor as it stands.

    Attributes:
        input, output: the input, and the output of ten numbers.
        provider: what computes, read back from the runtime: a provider, a delegate or a device.
        threads: how many threads compute, read back: counted in LiteRT and ONNX Runtime, its setting in TensorFlow.
        delegated_share: the share of the operations that the delegate in `provider` runs; None without delegates.
    """

    threads: int

    @property
    def delegated_share(self) -> float | None:
        """The share of the operations that the delegate runs; None in a runtime without delegates."""

    @property
    def input(self) -> Tensor:
        """The input."""

    @property
    def output(self) -> Tensor:
        """The output of ten numbers."""

    @property
    def provider(self) -> str:
        """What computes, read back from the runtime."""

    def __call__(self, batch: NDArray[Any], /) -> NDArray[Any]:
        """Return the output, in host memory, for a batch of exactly the input's dtype and layout."""


def check_runtime(name: str, format_name: str) -> Runtime:
    """Return a runtime that can read files of a format.

    Raises:
        UsageError: it does not read them, or is not installed.
    """
    runtime = RUNTIMES[name]
    if format_name not in runtime.formats:
        readers = [other for other, row in RUNTIMES.items() if format_name in row.formats]
        raise UsageError(f"{name} does not read {format_name} files; {', '.join(readers)} do.")
    if not runtime.is_installed:
        raise UsageError(f"{name} is not installed: pip install 'cifar-bench[{runtime.extra}]'.")
    return runtime


def load_session(
    format_name: str, path: Path, threads: int, device: str = "cpu", runtime_name: str | None = None
) -> RuntimeSession:
    """Load a file in a runtime.

    Args:
        format_name: a key of FORMATS.
        path: the file.
        threads: for the runtime.
        device: `cpu` or `gpu`; without such a provider the runtime takes the CPU, and `provider` says so.
        runtime_name: a key of RUNTIMES; None for the format's own.

    Raises:
        UsageError: the runtime is not installed or does not read the format, or the file has not one input and one
            output of ten numbers.
        Exception: whatever the runtime raises for a damaged file.
    """
    runtime = check_runtime(runtime_name or FORMATS[format_name].runtime, format_name)
    module = importlib.import_module(f"cifar.inference.runtimes.{runtime.module_name}")
    options = {}
    if runtime.precision != "float32":
        options = {"precision": runtime.precision}
    session: RuntimeSession = module.Session(path, threads, device, **options)
    return session


def single(what: str, items: Sequence[Any]) -> Any:
    """Return the only item.

    Raises:
        UsageError: there are several, or none.
    """
    if len(items) != 1:
        raise UsageError(f"it has {len(items)} {what}s, expected one.")
    return items[0]


def class_output(outputs: Sequence[Tensor]) -> Tensor:
    """Return the output that gives ten numbers, of several; the only one, whatever it gives.

    Raises:
        UsageError: none or several give ten.
    """
    if len(outputs) == 1:
        return outputs[0]
    of_ten = [tensor for tensor in outputs if tensor.size == CLASSES]
    output: Tensor = single("output of ten number", of_ten)
    return output
