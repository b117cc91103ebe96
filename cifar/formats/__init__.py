"""The model formats, as data; a module per format and precision, each with `write` and `read_metadata`.

The contract that every exported file keeps is in exports/README.md.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cifar.formats.logits import Logits, NotCentred

INPUT, OUTPUT = "image", "probabilities"


@dataclass(frozen=True)
class Source:
    """What a file is exported from.

    Attributes:
        model: a Keras model.
        metadata: stored in the file; see `export.file_metadata`.
        calibration: training images, uint8 (N, 32, 32, 3), from whose activations int8 takes its ranges.
        logits: what int8 quantises in place of the model's; None for other precisions.
        keep_float: layers that int8 leaves in float32, as the tensors of the file are named.
    """

    model: Any
    metadata: dict[str, str]
    calibration: NDArray[np.uint8]
    logits: Logits | NotCentred | None = None
    keep_float: Sequence[str] = ()


class FormatModule(Protocol):
    """What a format's module offers."""

    def write(self, source: Source, path: Path) -> None:
        """Write a model to a path that is not there yet."""

    def read_metadata(self, path: Path) -> dict[str, str]:
        """Return the metadata that `write` put into a file."""


@dataclass(frozen=True)
class Format:
    """A format in a precision.

    Attributes:
        suffix: how its files end.
        module_name: the module here that knows it.
        runtime: in which its files are checked; a key of cifar.inference.runtimes.RUNTIMES, and its distribution.
        precision: of its weights; int8 computes in integers too.
        max_drop: points of test accuracy that a file may lose against the Keras model; None: it must be equivalent.
        can_keep_float: whether single layers can stay in float32.
    """

    suffix: str
    module_name: str
    runtime: str
    precision: str = "float32"
    max_drop: float | None = None
    can_keep_float: bool = False

    @property
    def module(self) -> FormatModule:
        """The format's module, imported when first asked for: a runtime is heavy."""
        return cast(FormatModule, importlib.import_module(f"cifar.formats.{self.module_name}"))


FORMATS: dict[str, Format] = {
    "saved-model": Format(".saved_model", "saved_model", "tensorflow"),
    "tflite": Format(".tflite", "tflite", "ai-edge-litert"),
    "tflite-float16": Format(".float16.tflite", "tflite_float16", "ai-edge-litert", "float16", 0.2),
    "tflite-int8": Format(".int8.tflite", "tflite_int8", "ai-edge-litert", "int8", 0.5),
    "onnx": Format(".onnx", "onnx", "onnxruntime"),
    "onnx-int8": Format(".int8.onnx", "onnx_int8", "onnxruntime", "int8", 0.5, True),
}
FLOAT32_FORMATS = tuple(name for name, row in FORMATS.items() if row.max_drop is None)
"""The formats whose files must be numerically equivalent to the Keras model; written where none is named."""
