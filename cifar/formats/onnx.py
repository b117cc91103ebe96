"""ONNX, written by tf2onnx and run by ONNX Runtime."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError, printable
from cifar.formats import FORMATS, INPUT, OUTPUT, Loaded, Source
from cifar.formats.graph import serving
from cifar.metrics.classification import Probabilities
from cifar.system import hardware

OPSET = 18


def write(source: Source, path: Path) -> None:
    """Write an ONNX file of opset 18, its free batch dimension named N."""
    save(convert(source), source.metadata, path)


def convert(source: Source) -> Any:
    """The Keras model as a checked onnx.ModelProto."""
    import onnx
    import tensorflow as tf
    import tf2onnx.tfonnx

    serve = serving(source.model).serve
    signature = [tf.TensorSpec((None, 32, 32, 3), tf.uint8, name=INPUT)]
    tf2onnx.utils.INTERNAL_NAME = 1  # else its names count what this process has converted, as the doc_string does
    with hardware.quiet(show_failure=False):
        proto, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=OPSET)
    _make_constant(proto, serve.get_concrete_function())
    for end in (*proto.graph.input, *proto.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "N"
    proto.graph.doc_string = ""
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _make_constant(proto: Any, function: Any) -> None:
    """Turn what tf2onnx takes for inputs, the constants that a layer holds as tensors, into constants."""
    import onnx

    names = [tensor.name for tensor in function.inputs[1:]]
    values = dict(zip(names, function.captured_inputs, strict=True))
    for constant in [end for end in proto.graph.input if end.name in values]:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values[constant.name].numpy(), constant.name))
        proto.graph.input.remove(constant)


def save(proto: Any, metadata: dict[str, str], path: Path) -> None:
    """Write a checked onnx.ModelProto with its metadata."""
    import onnx

    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def start(path: Path, threads: int, device: str = "cpu") -> tuple[Any, int, str]:
    """ONNX Runtime's session of a file; how many threads compute, and the provider that does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    asked = FORMATS["onnx"].providers[device]
    provider = asked if asked in onnxruntime.get_available_providers() else "CPUExecutionProvider"
    with hardware.count_threads() as started:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    return session, 1 + started(), str(session.get_providers()[0])


class _Session:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: Path, threads: int, device: str) -> None:
        self._session, self.threads, self.provider = start(path, threads, device)

    def __call__(self, images: NDArray[np.uint8]) -> Probabilities:
        answer: Probabilities = self._session.run([OUTPUT], {INPUT: images})[0]
        return answer


def load(path: Path, threads: int, device: str = "cpu") -> Loaded:
    """Load an ONNX file in ONNX Runtime, with the provider of the device if it is there, else with the CPU's."""
    return _Session(path, threads, device)


def examine(path: Path) -> None:
    """Look whether a file reads from others, without reading them.

    Raises:
        UsageError: it has data in a file that is not in its own folder or below, or it is not an ONNX file.
    """
    import onnx

    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # a damaged file raises many kinds
        raise UsageError(f"{path}: not an ONNX file: {printable(str(error), 200)}") from error
    folder = path.parent.resolve()
    for tensor in _tensors(proto):
        for entry in tensor.external_data:
            location = folder / entry.value
            if entry.key == "location" and not location.resolve().is_relative_to(folder):
                raise UsageError(f"{path}: it has data outside of its folder: {printable(entry.value, 200)}.")


def quantisation(path: Path) -> tuple[float, int]:
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


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor in a protobuf message, however deep: of graphs, of attributes, of functions."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if field.is_repeated else [value]:
                yield from _tensors(part)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file."""
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
