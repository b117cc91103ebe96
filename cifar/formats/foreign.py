"""Models that are not ours: what a file takes and gives is read from it; how it scales pixels its user must say.

Anything that sorts 32x32 RGB into ten: NHWC or NCHW, float, uint8 or int8, quantised or not, any names, a fixed or
a free batch.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar import environment
from cifar.errors import UsageError
from cifar.evaluation import CLASSES, Probabilities

SUFFIXES = {".onnx": "onnx", ".tflite": "tflite"}
SIDE, CHANNELS = 32, 3
ALIKE = 0.02  # of a range's width: two ranges that differ less are the same


class ReadingNeededError(UsageError):
    """The file does not say how it scales pixels."""


@dataclass(frozen=True)
class Reading:
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
    def from_json(cls, text: str) -> "Reading":
        """What `to_json` made."""
        facts = json.loads(text)
        return cls(facts["range"], *(tuple(facts[name]) if facts[name] else None for name in ("mean", "std")))


Scaling = Callable[[NDArray[np.float32]], NDArray[np.float32]]
RANGES: dict[str, tuple[tuple[float, float], Scaling]] = {
    "0..1": ((0.0, 1.0), lambda x: x / np.float32(255)),
    "0..255": ((0.0, 255.0), lambda x: x),
    "-1..1": ((-1.0, 1.0), lambda x: x / np.float32(127.5) - np.float32(1)),
}


@dataclass(frozen=True)
class Tensor:
    """An input or an output.

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
    def values(self) -> tuple[float, float]:
        """The smallest and the largest value that a quantised tensor can hold."""
        limits = np.iinfo(self.dtype)
        return self.scale * (limits.min - self.zero_point), self.scale * (limits.max - self.zero_point)

    def quantise(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """The nearest elements to some values."""
        limits = np.iinfo(self.dtype)
        elements = np.round(values / np.float32(self.scale) + np.float32(self.zero_point))
        return np.clip(elements, limits.min, limits.max).astype(self.dtype)

    def dequantise(self, elements: NDArray[Any]) -> NDArray[np.float32]:
        """The values of some elements."""
        if not self.scale:
            return elements.astype(np.float32)
        return np.float32(self.scale) * (elements.astype(np.float32) - np.float32(self.zero_point))


class Opened(Protocol):
    """A file in its runtime, with its one input and one output."""

    input: Tensor
    output: Tensor
    provider: str
    threads: int

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The output for an input of exactly the input's type and layout."""


class Foreign:
    """A foreign model as a predictor of raw outputs: float32 (N, 10), logits or probabilities.

    Args:
        opened: its file.
        reading: how it scales pixels; an empty one if the file says so itself.

    Raises:
        UsageError: it does not take pictures of 32x32 RGB, does not give ten numbers, or its reading is missing or
            does not apply.
    """

    def __init__(self, opened: Opened, reading: Reading) -> None:
        self._opened, tensor = opened, opened.input
        self.provider, self.threads = opened.provider, opened.threads
        if math.prod(side or 1 for side in opened.output.shape[1:]) not in (1, CLASSES):
            raise UsageError(f"its output '{opened.output.name}' is {_shape(opened.output)}, not (N, {CLASSES}).")
        self._channels_first = _channels_first(tensor)
        self._batch = tensor.shape[0]
        self._reading = _checked(tensor, reading)

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
        if self._reading is not None:
            values = self._reading(images)
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


def _checked(tensor: Tensor, reading: Reading) -> Reading | None:
    """The reading that an input needs; None for bytes as they are."""
    if tensor.dtype.kind == "f":
        if not reading:
            raise ReadingNeededError(
                f"its input '{tensor.name}' is {tensor.dtype}, and how it scales pixels is not in it."
            )
        return reading
    if tensor.dtype not in (np.uint8, np.int8):
        raise UsageError(f"its input '{tensor.name}' is {tensor.dtype}; float, uint8 and int8 can be fed.")
    if tensor.scale:
        return reading or _reading_of(tensor)
    if tensor.dtype == np.int8:
        raise UsageError(f"its input '{tensor.name}' is int8, and no scale and zero point say what that means.")
    if reading:
        raise UsageError(f"its input '{tensor.name}' takes bytes as they are: {reading} does not apply.")
    return None


def _reading_of(tensor: Tensor) -> Reading:
    """The range that a quantised input covers."""
    low, high = tensor.values
    for name, ((least, most), _) in RANGES.items():
        if max(abs(low - least), abs(high - most)) <= ALIKE * (most - least):
            return Reading(name)
    raise ReadingNeededError(
        f"its input '{tensor.name}' is quantised from {low:.3g} to {high:.3g}, no range known here."
    )


def format_of(path: Path) -> str:
    """The format in FORMATS by whose runtime a file is opened.

    Raises:
        UsageError: it is not there, or none of them.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such file.")
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return "saved-model"
    if path.is_file() and path.suffix in SUFFIXES:
        return SUFFIXES[path.suffix]
    raise UsageError(f"{path}: neither a run folder, an .onnx or .tflite file, nor a SavedModel folder.")


def load(name: str, path: Path, threads: int, reading: Reading) -> Foreign:
    """Open a foreign file of a format.

    Raises:
        UsageError: it does not fit, see Foreign.
    """
    return Foreign(OPENED[name](path, threads), reading)


class _Onnx:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        with environment.count_threads() as started:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.threads = 1 + started()
        self.provider = str(self._session.get_providers()[0])
        self.input = self._tensor(_only("input", self._session.get_inputs()), *_quantisation(path))
        self.output = _ten([self._tensor(end) for end in self._session.get_outputs()])

    @staticmethod
    def _tensor(end: Any, scale: float = 0.0, zero_point: int = 0) -> Tensor:
        kind = str(end.type).removeprefix("tensor(").removesuffix(")")
        names = {"float": "float32", "double": "float64"}
        shape = tuple(side if isinstance(side, int) and side > 0 else None for side in end.shape)
        try:
            return Tensor(end.name, np.dtype(names.get(kind, kind)), shape, scale, zero_point)
        except TypeError as error:
            raise UsageError(f"its '{end.name}' is {kind}; float, uint8 and int8 can be fed.") from error

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        answer: NDArray[Any] = self._session.run([self.output.name], {self.input.name: batch})[0]
        return answer


def _quantisation(path: Path) -> tuple[float, int]:
    """Scale and zero point of an ONNX file's input, if all that takes it is a DequantizeLinear; else 0 and 0."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [end.name for end in graph.input if end.name not in constants]
    takers = [node for node in graph.node if inputs and inputs[0] in node.input]
    if len(takers) != 1 or takers[0].op_type != "DequantizeLinear" or takers[0].input[1] not in constants:
        return 0.0, 0
    values = [onnx.numpy_helper.to_array(constants[name]) for name in takers[0].input[1:] if name in constants]
    if values[0].size != 1:
        return 0.0, 0
    return float(values[0].item()), int(values[1].item()) if len(values) > 1 else 0


class _Tflite:
    """A TFLite file in LiteRT."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with environment.count_threads() as started, environment.quiet():
            self._interpreter = Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        self.threads = 1 + started()
        operations = {operation["op_name"] for operation in self._interpreter._get_ops_details()}
        self.provider = "XNNPACK" if "DELEGATE" in operations else "built-in kernels"
        self._in = _only("input", self._interpreter.get_input_details())
        ends = self._interpreter.get_output_details()
        self.input, self.output = self._tensor(self._in), _ten([self._tensor(end) for end in ends])
        self._out = next(end for end in ends if end["name"] == self.output.name)
        self._size = int(self._in["shape"][0])

    @staticmethod
    def _tensor(end: Any) -> Tensor:
        scale, zero_point = end["quantization"]
        signature = end.get("shape_signature", end["shape"])
        shape = tuple(int(side) if side > 0 else None for side in signature)
        return Tensor(end["name"], np.dtype(end["dtype"]), shape, float(scale), int(zero_point))

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        if len(batch) != self._size:
            self._size = len(batch)
            self._interpreter.resize_tensor_input(self._in["index"], batch.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._in["index"], batch)
        self._interpreter.invoke()
        answer: NDArray[Any] = self._interpreter.get_tensor(self._out["index"])
        return answer


class _SavedModel:
    """A SavedModel's serving signature."""

    def __init__(self, path: Path, threads: int) -> None:
        environment.configure(threads)
        import tensorflow as tf

        self._loaded = tf.saved_model.load(str(path))  # the signature does not keep its model alive
        signatures = dict(self._loaded.signatures)
        names = [name for name in signatures if name == "serving_default"] or list(signatures)
        self._signature = signatures[_only("signature", names)]
        self._constant = tf.constant
        specs = self._signature.structured_input_signature[1]
        self.input = self._tensor(_only("input", list(specs)), specs)
        outputs = self._signature.structured_outputs
        self.output = _ten([self._tensor(name, outputs) for name in outputs])
        self.threads = int(tf.config.threading.get_intra_op_parallelism_threads())
        self.provider = "CPU"

    @staticmethod
    def _tensor(name: str, specs: Any) -> Tensor:
        shape = specs[name].shape
        axes = tuple(shape) if shape.rank is not None else (None,)
        return Tensor(name, np.dtype(specs[name].dtype.as_numpy_dtype), axes)

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        answer: NDArray[Any] = self._signature(**{self.input.name: self._constant(batch)})[self.output.name].numpy()
        return answer


OPENED: dict[str, Callable[[Path, int], Opened]] = {"onnx": _Onnx, "tflite": _Tflite, "saved-model": _SavedModel}


def _only(what: str, found: Any) -> Any:
    """The only one of some.

    Raises:
        UsageError: there are several, or none.
    """
    if len(found) != 1:
        raise UsageError(f"it has {len(found)} {what}s, expected one.")
    return found[0]


def _ten(outputs: list[Tensor]) -> Tensor:
    """The output that gives ten numbers, of several; the only one, whatever it gives.

    Raises:
        UsageError: none or several give ten.
    """
    ten = [end for end in outputs if math.prod(side or 1 for side in end.shape[1:]) == CLASSES]
    found: Tensor = _only("output of ten number", ten) if len(outputs) > 1 else _only("output", outputs)
    return found


def _shape(tensor: Tensor) -> str:
    return f"({', '.join('N' if side is None else str(side) for side in tensor.shape)})"


def _commas(values: tuple[float, ...] | None) -> str:
    return ",".join(f"{value:g}" for value in values or ())
