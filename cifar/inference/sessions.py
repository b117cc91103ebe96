"""Files that are not ours in their runtimes: whatever their ends are called, one input and one output of ten."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.formats import onnx, tflite
from cifar.metrics.classification import CLASSES
from cifar.system import environment


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


class RuntimeSession(Protocol):
    """A file in its runtime, with its one input and one output."""

    input: Tensor
    output: Tensor
    provider: str
    threads: int

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The output for an input of exactly the input's type and layout."""


class _Onnx:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: Path, threads: int) -> None:
        self._session, self.threads, self.provider = onnx.start(path, threads)
        self.input = self._tensor(_single("input", self._session.get_inputs()))
        if self.input.dtype.kind != "f":  # preprocessing the graph costs more than loading it
            scale, zero_point = onnx.quantisation(path)
            self.input = replace(self.input, scale=scale, zero_point=zero_point)
        self.output = _class_output([self._tensor(end) for end in self._session.get_outputs()])

    @staticmethod
    def _tensor(end: Any) -> Tensor:
        kind = str(end.type).removeprefix("tensor(").removesuffix(")")
        names = {"float": "float32", "double": "float64"}
        shape = tuple(side if isinstance(side, int) and side > 0 else None for side in end.shape)
        try:
            return Tensor(end.name, np.dtype(names.get(kind, kind)), shape)
        except TypeError as error:
            raise UsageError(f"its '{end.name}' is {kind}; float, uint8 and int8 can be fed.") from error

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        answer: NDArray[Any] = self._session.run([self.output.name], {self.input.name: batch})[0]
        return answer


class _Tflite:
    """A TFLite file in LiteRT."""

    def __init__(self, path: Path, threads: int) -> None:
        self._interpreter, self.threads, self.provider = tflite.start(path, threads)
        self._in = _single("input", self._interpreter.get_input_details())
        ends = self._interpreter.get_output_details()
        self.input, self.output = self._tensor(self._in), _class_output([self._tensor(end) for end in ends])
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
        self._signature = signatures[_single("signature", names)]
        self._constant = tf.constant
        specs = self._signature.structured_input_signature[1]
        self.input = self._tensor(_single("input", list(specs)), specs)
        outputs = self._signature.structured_outputs
        self.output = _class_output([self._tensor(name, outputs) for name in outputs])
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


RUNTIMES: dict[str, Callable[[Path, int], RuntimeSession]] = {
    "onnx": _Onnx,
    "tflite": _Tflite,
    "saved-model": _SavedModel,
}


def _single(what: str, found: Any) -> Any:
    """The only one of some.

    Raises:
        UsageError: there are several, or none.
    """
    if len(found) != 1:
        raise UsageError(f"it has {len(found)} {what}s, expected one.")
    return found[0]


def _class_output(outputs: list[Tensor]) -> Tensor:
    """The output that gives ten numbers, of several; the only one, whatever it gives.

    Raises:
        UsageError: none or several give ten.
    """
    ten = [end for end in outputs if math.prod(side or 1 for side in end.shape[1:]) == CLASSES]
    found: Tensor = _single("output of ten number", ten) if len(outputs) > 1 else _single("output", outputs)
    return found
