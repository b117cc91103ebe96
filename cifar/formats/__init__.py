"""The model formats, as data; one module per format, each with `write` and `load`.

The contract that every exported file keeps is in exports/README.md.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from cifar.evaluation import Predictor

INPUT, OUTPUT = "image", "probabilities"


class Room(Protocol):
    """What a format's module offers."""

    def write(self, model: Any, path: Path, metadata: dict[str, str]) -> None:
        """Write a Keras model, with the metadata inside, to a path that is not there yet."""

    def load(self, path: Path, threads: int) -> Predictor:
        """Load a file in the format's own runtime."""

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The metadata that `write` put into a file."""


@dataclass(frozen=True)
class Format:
    """A format: how its files end, the module that knows it, the distribution that runs it."""

    suffix: str
    module: str
    runtime: str

    @property
    def room(self) -> Room:
        """The format's module, imported when first asked for: a runtime is heavy."""
        return cast(Room, importlib.import_module(f"cifar.formats.{self.module}"))


FORMATS: dict[str, Format] = {
    "saved-model": Format(".saved_model", "saved_model", "tensorflow"),
    "tflite": Format(".tflite", "tflite", "ai-edge-litert"),
    "onnx": Format(".onnx", "onnx", "onnxruntime"),
}
