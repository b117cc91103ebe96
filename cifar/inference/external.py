"""Models that are not ours: what a file takes and gives is read from it; how it scales pixels its user must say.

Anything that sorts 32x32 RGB into ten: NHWC or NCHW, float, uint8 or int8, quantised or not, any names, a fixed or
a free batch.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.inference.sessions import RUNTIMES, RuntimeSession, Tensor
from cifar.metrics.classification import CLASSES, Probabilities

SUFFIXES = {".onnx": "onnx", ".tflite": "tflite"}
SIDE, CHANNELS = 32, 3
ALIKE = 0.02  # of a range's width: two ranges that differ less are the same


class PreprocessingNeededError(UsageError):
    """The file does not say how it scales pixels."""


@dataclass(frozen=True)
class Preprocessing:
    """How a model scales bytes: a range, or a mean and a standard deviation per channel of pixels from 0 to 1.

    Attributes:
        range: a key of RANGES.
        mean, std: of three channels; only together and without a range. With neither, the file says it itself.
    """

    range: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The values, float32, that the model expects of bytes (N, 32, 32, 3)."""
        if self.range is not None:
            return RANGES[self.range][1](images.astype(np.float32))
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        scaled: NDArray[np.float32] = (images.astype(np.float32) / np.float32(255) - mean) / std
        return scaled

    def __str__(self) -> str:
        """As the command line has it."""
        if self.range:
            return f"--input-range={self.range}"
        return f"--mean {_commas(self.mean)} --std {_commas(self.std)}"

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return self.range is not None or self.mean is not None

    def to_json(self) -> str:
        """As text, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """What `to_json` made."""
        facts = json.loads(text)
        return cls(facts["range"], *(tuple(facts[name]) if facts[name] else None for name in ("mean", "std")))


Scaling = Callable[[NDArray[np.float32]], NDArray[np.float32]]
RANGES: dict[str, tuple[tuple[float, float], Scaling]] = {
    "0..1": ((0.0, 1.0), lambda x: x / np.float32(255)),
    "0..255": ((0.0, 255.0), lambda x: x),
    "-1..1": ((-1.0, 1.0), lambda x: x / np.float32(127.5) - np.float32(1)),
}


class ExternalModel:
    """A foreign model as a predictor of raw outputs: float32 (N, 10), logits or probabilities.

    Args:
        opened: its file.
        preprocessing: how it scales pixels; an empty one if the file says so itself.

    Raises:
        UsageError: it does not take pictures of 32x32 RGB, does not give ten numbers, or its preprocessing is missing or
            does not apply.
    """

    def __init__(self, opened: RuntimeSession, preprocessing: Preprocessing) -> None:
        self._opened, tensor = opened, opened.input
        self.provider, self.threads = opened.provider, opened.threads
        if math.prod(side or 1 for side in opened.output.shape[1:]) not in (1, CLASSES):
            raise UsageError(f"its output '{opened.output.name}' is {_shape(opened.output)}, not (N, {CLASSES}).")
        self._channels_first = _channels_first(tensor)
        self._batch = tensor.shape[0]
        self._preprocessing = _checked(tensor, preprocessing)

    def __call__(self, images: NDArray[np.uint8]) -> Probabilities:
        """The raw outputs, float32 (N, 10), of bytes (N, 32, 32, 3)."""
        size = self._batch or len(images)
        parts = [self._run(images[start : start + size], size) for start in range(0, len(images), size)]
        return np.concatenate(parts)

    def _run(self, images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
        """Run one batch, filled up to its fixed size."""
        filled = np.resize(images, (size, *images.shape[1:])) if len(images) < size else images
        output = np.asarray(self._opened.run(self._prepare(filled)))
        values = self._opened.output.dequantise(output)
        if values.size != size * CLASSES:
            raise UsageError(f"its output for {size} images is {output.shape}, not ({size}, {CLASSES}).")
        return values.reshape(size, CLASSES)[: len(images)]

    def _prepare(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        tensor = self._opened.input
        made: NDArray[Any] = images
        if self._preprocessing is not None:
            values = self._preprocessing(images)
            made = tensor.quantise(values) if tensor.scale else values.astype(tensor.dtype)
        return np.ascontiguousarray(made.transpose(0, 3, 1, 2) if self._channels_first else made)


def _channels_first(tensor: Tensor) -> bool:
    """Whether an input is NCHW and not NHWC.

    Raises:
        UsageError: it is neither.
    """
    for first, wanted in ((False, (SIDE, SIDE, CHANNELS)), (True, (CHANNELS, SIDE, SIDE))):
        axes = tensor.shape[1:]
        if len(axes) == 3 and all(axis in (None, side) for axis, side in zip(axes, wanted, strict=True)):
            return first
    raise UsageError(f"its input '{tensor.name}' is {_shape(tensor)}, neither (N, 32, 32, 3) nor (N, 3, 32, 32).")


def _checked(tensor: Tensor, preprocessing: Preprocessing) -> Preprocessing | None:
    """The preprocessing that an input needs; None for bytes as they are."""
    if tensor.dtype.kind == "f":
        if not preprocessing:
            raise PreprocessingNeededError(
                f"its input '{tensor.name}' is {tensor.dtype}, and how it scales pixels is not in it."
            )
        return preprocessing
    if tensor.dtype not in (np.uint8, np.int8):
        raise UsageError(f"its input '{tensor.name}' is {tensor.dtype}; float, uint8 and int8 can be fed.")
    if tensor.scale:
        return preprocessing or _preprocessing_of(tensor)
    if tensor.dtype == np.int8:
        raise UsageError(f"its input '{tensor.name}' is int8, and no scale and zero point say what that means.")
    if preprocessing:
        raise UsageError(f"its input '{tensor.name}' takes bytes as they are: {preprocessing} does not apply.")
    return None


def _preprocessing_of(tensor: Tensor) -> Preprocessing:
    """The range that a quantised input covers."""
    low, high = tensor.values
    for name, ((least, most), _) in RANGES.items():
        if max(abs(low - least), abs(high - most)) <= ALIKE * (most - least):
            return Preprocessing(name)
    raise PreprocessingNeededError(
        f"its input '{tensor.name}' is quantised from {low:.3g} to {high:.3g}, no range known here."
    )


def format_of(path: Path) -> str:
    """The format in FORMATS by whose runtime a file is opened.

    Raises:
        UsageError: it is not there, or none of them.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such run folder, and no such file.")
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return "saved-model"
    if path.is_file() and path.suffix in SUFFIXES:
        return SUFFIXES[path.suffix]
    raise UsageError(f"{path}: neither a run folder, an .onnx or .tflite file, nor a SavedModel folder.")


def load(name: str, path: Path, threads: int, preprocessing: Preprocessing) -> ExternalModel:
    """Open a foreign file of a format.

    Raises:
        UsageError: it does not fit, see ExternalModel.
    """
    return ExternalModel(RUNTIMES[name](path, threads), preprocessing)


def _shape(tensor: Tensor) -> str:
    return f"({', '.join('N' if side is None else str(side) for side in tensor.shape)})"


def _commas(values: tuple[float, ...] | None) -> str:
    return ",".join(f"{value:g}" for value in values or ())
