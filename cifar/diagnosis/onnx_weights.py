"""The weights of an int8 ONNX file beside those of its float twin: which layer's rounding costs how much."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUFFIX = "_quantized"  # with which ONNX Runtime extends the name of a constant that it rounds
WITH_KERNEL = ("Conv", "Gemm", "MatMul")
SLACK = 1.001  # half a step, and float32's own rounding


@dataclass(frozen=True)
class Weights:
    """Kernel and bias of a layer in an int8 file, and the float twin's.

    Attributes:
        name: of the kernel, in both files.
        rounded: the kernel's values, float32.
        in_float: the twin's tensors by the name of the output of the DequantizeLinear that gives the rounded ones;
            the kernel is the first.
    """

    name: str
    rounded: NDArray[np.float32]
    in_float: dict[str, NDArray[np.float32]]

    @property
    def kernel(self) -> NDArray[np.float32]:
        """The twin's kernel."""
        return next(iter(self.in_float.values()))


def find_weights(proto: Any, float_path: Path) -> list[Weights]:
    """Return the layers of an onnx.ModelProto whose kernel is that of the float file, rounded.

    A kernel that was changed before it was rounded, as by centring, is not among them. Batch norms of the float file
    are folded into its convolutions first, as ONNX Runtime does before it quantises.
    """
    import onnx

    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    twin = _folded_constants(float_path)
    producers = {node.output[0]: node for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    found = []
    for node in proto.graph.node:
        if node.op_type not in WITH_KERNEL:
            continue
        sources = [producers[name] for name in node.input[1:] if name in producers]
        in_float = {}
        for source in sources:
            values = twin.get(source.input[0].removesuffix(SUFFIX))
            if source.input[0] in constants and values is not None:
                in_float[source.output[0]] = values
        if sources and sources[0].output[0] in in_float:
            rounded, step = _dequantize(sources[0], constants)
            kernel = in_float[sources[0].output[0]]
            if kernel.shape == rounded.shape and (np.abs(kernel - rounded) <= step / 2 * SLACK).all():
                found.append(Weights(sources[0].input[0].removesuffix(SUFFIX), rounded, in_float))
    return found


def with_float_weights(proto: Any, weights: Sequence[Weights]) -> Any:
    """Return a copy of an onnx.ModelProto in which some layers have the float file's kernel and bias."""
    import onnx

    in_float: dict[str, NDArray[np.float32]] = {}
    for layer in weights:
        in_float |= layer.in_float
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.node[:]
    copy.graph.node.extend(node for node in proto.graph.node if node.output[0] not in in_float)
    copy.graph.initializer.extend(onnx.numpy_helper.from_array(values, name) for name, values in in_float.items())
    return copy


def _dequantize(node: Any, constants: dict[str, NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a DequantizeLinear makes of a constant, and its step, which is one per channel or one in all."""
    integers, scale = (constants[name] for name in node.input[:2])
    zero_point = constants[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale, np.int32)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    shape = [1] * integers.ndim
    if scale.ndim:
        shape[axis] = -1
    step = scale.reshape(shape).astype(np.float32)
    difference = integers.astype(np.float32) - zero_point.reshape(shape).astype(np.float32)
    return difference * step, step


def _folded_constants(path: Path) -> dict[str, NDArray[Any]]:
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        folded = str(Path(scratch, "folded.onnx"))
        quant_pre_process(str(path), folded, skip_symbolic_shape=True)
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(folded).graph.initializer}
