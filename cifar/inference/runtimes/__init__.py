"""The runtimes, as data, and what a model file is in one of them: a session with one input and one output.

A module per runtime; each serves our files and external ones.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.formats import FORMATS
from cifar.inference.runtimes.requirements import (
    CHROMIUM,
    NODE,
    BuiltProgram,
    NodePackage,
    PythonPackage,
    Requirement,
)
from cifar.metrics.classification import CLASSES


@dataclass(frozen=True)
class Runtime:
    """A runtime, with its settings.

    Attributes:
        module_name: the module here that knows it.
        formats: the keys of FORMATS whose files it reads.
        requirements: what must be installed; the first that has a version gives the runtime's.
        providers: by device, what it must say that it ran on; on a device that is not listed it cannot run.
        precision: in which it computes what a file has in float32; as read back from it.
        options: of the module's Session.
        single_image: whether a call classifies one image, so that a batch takes as many calls as it has images.
        threads: the only number of threads that it can have; None: any.
        unnamed_formats: those of `formats` that are run in it where no runtime is named; None: all.
    """

    module_name: str
    formats: tuple[str, ...]
    requirements: tuple[Requirement, ...]
    providers: Mapping[str, str]
    precision: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)
    single_image: bool = False
    threads: int | None = None
    unnamed_formats: tuple[str, ...] | None = None

    def reads(self, format_name: str, is_named: bool) -> bool:
        """Whether it reads the files of a format, and is to do so where the user does not name it."""
        if is_named or self.unnamed_formats is None:
            return format_name in self.formats
        return format_name in self.unnamed_formats

    @property
    def missing(self) -> str | None:
        """What is missing to run it, and how to get it, without a full stop; None where all is there."""
        for requirement in self.requirements:
            if requirement.missing is not None:
                return requirement.missing
        return None

    @property
    def version(self) -> str:
        """The version that is installed."""
        versions = [requirement.version for requirement in self.requirements]
        return next(filter(None, versions), "")

    @property
    def import_name(self) -> str | None:
        """The module whose import starts it; None for one that is a program of its own."""
        first = self.requirements[0]
        return first.import_name if isinstance(first, PythonPackage) else None


TFLITE_FORMATS = ("tflite", "tflite-float16", "tflite-int8")
ONNX_FORMATS = ("onnx", "onnx-int8")
TENSORFLOW = PythonPackage("tensorflow", "tensorflow")
LITERT = PythonPackage("ai-edge-litert", "ai_edge_litert.interpreter")
ONNX_RUNTIME = PythonPackage("onnxruntime", "onnxruntime")
OPENVINO = PythonPackage("openvino", "openvino", "openvino")
PLAYWRIGHT = PythonPackage("playwright", "playwright", "browser")
ONNX_RUNTIME_WEB = NodePackage("onnxruntime-web", "1.30.0")
LITERTJS = NodePackage("@litertjs/core", "2.5.3")
TFLITE_MICRO = PythonPackage("tflite-micro", "tflite_micro", "micro")
C_PROGRAM = BuiltProgram("the example program in C", ("exports", "examples", "c", "classify"))
ONNX_RUNTIME_PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}
RUNTIMES: dict[str, Runtime] = {
    "tensorflow": Runtime("tensorflow", ("saved-model",), (TENSORFLOW,), {"cpu": "CPU", "gpu": "GPU"}),
    "ai-edge-litert": Runtime("litert", TFLITE_FORMATS, (LITERT,), {"cpu": "XNNPACK"}),
    "ai-edge-litert-built-in": Runtime(
        "litert", TFLITE_FORMATS, (LITERT,), {"cpu": "built-in kernels"}, options={"delegates": False}
    ),
    "onnxruntime": Runtime("onnxruntime", ONNX_FORMATS, (ONNX_RUNTIME,), ONNX_RUNTIME_PROVIDERS),
    "onnxruntime-web-node": Runtime(
        "onnxruntime_web", ONNX_FORMATS, (ONNX_RUNTIME_WEB, NODE), {"cpu": "ORT web, Node"}, options={"host": "Node"}
    ),
    "onnxruntime-web-chromium": Runtime(
        "onnxruntime_web",
        ONNX_FORMATS,
        (ONNX_RUNTIME_WEB, PLAYWRIGHT, CHROMIUM),
        {"cpu": "ORT web, Chromium"},
        options={"host": "Chromium"},
    ),
    "litertjs-chromium": Runtime(
        "litertjs",
        TFLITE_FORMATS,
        (LITERTJS, PLAYWRIGHT, CHROMIUM),
        {"cpu": "LiteRT.js, Chromium"},
        single_image=True,
    ),
    "tflite-micro": Runtime(
        "tflite_micro",
        TFLITE_FORMATS,
        (TFLITE_MICRO,),
        {"cpu": "TFLite Micro"},
        single_image=True,
        threads=1,
        unnamed_formats=("tflite-int8",),
    ),
    "openvino": Runtime("openvino", tuple(FORMATS), (OPENVINO,), {"cpu": "OpenVINO, float32"}),
    "openvino-bfloat16": Runtime(
        "openvino", tuple(FORMATS), (OPENVINO,), {"cpu": "OpenVINO, bfloat16"}, "bfloat16", {"precision": "bfloat16"}
    ),
    "openvino-c": Runtime(
        "openvino_c",
        (*ONNX_FORMATS, *TFLITE_FORMATS),
        (C_PROGRAM, OPENVINO),
        {"cpu": "OpenVINO C, float32"},
        single_image=True,
    ),
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
        details: what else it says of itself, by name: numbers or texts.
    """

    threads: int
    details: Mapping[str, Any]

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
    if runtime.missing is not None:
        raise UsageError(f"{runtime.missing}.")
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
    session: RuntimeSession = module.Session(path, runtime.threads or threads, device, **runtime.options)
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
