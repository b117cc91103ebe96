"""The model formats, as data; a module per format and precision, each with `write` and `load`.

The contract that every exported file keeps is in exports/README.md.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cifar.metrics.classification import Probabilities

INPUT, OUTPUT = "image", "probabilities"


@dataclass(frozen=True)
class Source:
    """What a file is written from.

    Attributes:
        model: a Keras model.
        metadata: what the file says of itself.
        calibration: training images, uint8 (N, 32, 32, 3), from whose activations int8 takes its ranges.
    """

    model: Any
    metadata: dict[str, str]
    calibration: NDArray[np.uint8]


class Loaded(Protocol):
    """A file in its runtime: a Predictor that says what really runs it.

    Attributes:
        provider: what computes, read back from the runtime: a provider, a delegate or a device.
        threads: how many threads compute, read back.
    """

    provider: str
    threads: int

    def __call__(self, images: NDArray[np.uint8], /) -> Probabilities:
        """Probabilities, float32 (N, 10), in host memory, of uint8 images (N, 32, 32, 3)."""


class FormatModule(Protocol):
    """What a format's module offers."""

    def write(self, source: Source, path: Path) -> None:
        """Write a model to a path that is not there yet."""

    def load(self, path: Path, threads: int, device: str = "cpu") -> Loaded:
        """Load a file in the format's own runtime; `device` is a key of the format's providers."""

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The metadata that `write` put into a file."""


@dataclass(frozen=True)
class Format:
    """A format in a precision.

    Attributes:
        suffix: how its files end.
        module_name: the module here that knows it.
        runtime: the distribution that runs it.
        providers: what must really run it, by device; a device that is not named cannot run it.
        precision: of its weights; int8 computes in integers too.
        max_drop: how many points of test accuracy a file may lose against the Keras model; None: it must be equal.
    """

    suffix: str
    module_name: str
    runtime: str
    providers: dict[str, str]
    precision: str = "float32"
    max_drop: float | None = None

    @property
    def module(self) -> FormatModule:
        """The format's module, imported when first asked for: a runtime is heavy."""
        return cast(FormatModule, importlib.import_module(f"cifar.formats.{self.module_name}"))


_TENSORFLOW = {"cpu": "CPU", "gpu": "GPU"}
_LITERT = {"cpu": "XNNPACK"}
_ONNX_RUNTIME = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}

FORMATS: dict[str, Format] = {
    "saved-model": Format(".saved_model", "saved_model", "tensorflow", _TENSORFLOW),
    "tflite": Format(".tflite", "tflite", "ai-edge-litert", _LITERT),
    "tflite-float16": Format(".float16.tflite", "tflite_float16", "ai-edge-litert", _LITERT, "float16", 0.2),
    "tflite-int8": Format(".int8.tflite", "tflite_int8", "ai-edge-litert", _LITERT, "int8", 1.0),
    "onnx": Format(".onnx", "onnx", "onnxruntime", _ONNX_RUNTIME),
    "onnx-int8": Format(".int8.onnx", "onnx_int8", "onnxruntime", _ONNX_RUNTIME, "int8", 1.0),
}
FLOAT32_FORMATS = tuple(name for name, form in FORMATS.items() if form.max_drop is None)
"""The formats whose files must answer as the Keras model does; written where none is named."""
