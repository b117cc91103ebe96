"""ONNX, written by tf2onnx."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cifar.errors import UsageError, printable
from cifar.formats import INPUT, Source
from cifar.formats.graph import serving
from cifar.system import hardware

OPSET = 18
NUMBERED = "const_fold_opt__"  # how tf2onnx calls the constants that it computes


def write(source: Source, path: Path) -> None:
    """Write an ONNX file of opset 18, its free batch dimension named N."""
    save(convert(source), source.metadata, path)


def convert(source: Source) -> Any:
    """Convert the Keras model to a checked onnx.ModelProto."""
    import onnx
    import tensorflow as tf
    import tf2onnx.tfonnx

    serve = serving(source.model).serve
    signature = [tf.TensorSpec((None, 32, 32, 3), tf.uint8, name=INPUT)]
    tf2onnx.utils.INTERNAL_NAME = 1  # else its names count what this process has converted, as the doc_string does
    with hardware.quiet(show_failure=False):
        proto, _ = tf2onnx.convert.from_function(
            serve, input_signature=signature, opset=OPSET, custom_op_handlers={"Erfc": (_write_erfc, [])}
        )
    _make_constant(proto, serve.get_concrete_function())
    _name_constants(proto.graph)
    for end in (*proto.graph.input, *proto.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "N"
    proto.graph.doc_string = ""
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _write_erfc(graph: Any, node: Any, name: str, _arguments: Any) -> None:
    """Write TensorFlow's Erfc, of which its exact GELU consists and which tf2onnx lacks, as 1 - erf(x)."""
    outputs, dtype = node.output, graph.get_dtype(node.output[0])
    shape = graph.get_shape(node.output[0])
    graph.remove_node(name)
    one = graph.make_const(f"{name}_one", np.ones((), np.float32))
    erf = graph.make_node("Erf", node.input, name=f"{name}_erf", shapes=[shape], dtypes=[dtype])
    graph.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=outputs, shapes=[shape], dtypes=[dtype])


def _make_constant(proto: Any, function: Any) -> None:
    """Turn the tensors that a layer holds as constants, which tf2onnx takes for inputs, into constants."""
    import onnx

    names = [tensor.name for tensor in function.inputs[1:]]
    values = dict(zip(names, function.captured_inputs, strict=True))
    for constant in [end for end in proto.graph.input if end.name in values]:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values[constant.name].numpy(), constant.name))
        proto.graph.input.remove(constant)


def _name_constants(graph: Any) -> None:
    """Name constants by their first use, where tf2onnx's names depend on memory addresses.

    They do where it numbers several constants, or keeps one of several equal ones.
    """
    first_use: dict[str, str] = {}
    uses = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        for position, name in enumerate(node.input):
            first_use.setdefault(name, f"{node.output[0]}/constant{position}")
    names = {}
    for constant in graph.initializer:
        if constant.name.startswith(NUMBERED) or uses[constant.name] > 1:
            names[constant.name] = first_use[constant.name]
    if len(names) == 1:  # there is nothing to choose from
        return
    for constant in graph.initializer:
        constant.name = names.get(constant.name, constant.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    graph.initializer.sort(key=lambda constant: constant.name, reverse=True)


def save(proto: Any, metadata: dict[str, str], path: Path) -> None:
    """Write a checked onnx.ModelProto with its metadata."""
    import onnx

    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def check_external_data(path: Path) -> None:
    """Refuse a file that keeps weights in files outside of its folder; nothing of those is read.

    Raises:
        UsageError: it does, or it is not an ONNX file.
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
                raise UsageError(f"{path}: it keeps weights outside of its folder: {printable(entry.value, 200)}.")


def input_quantisation(path: Path) -> tuple[float, int]:
    """Return scale and zero point of an ONNX file's input, if only a DequantizeLinear uses it; else 0 and 0."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    users = _users_of_input(graph, constants)
    if len(users) != 1 or users[0].op_type != "DequantizeLinear":
        return 0.0, 0
    _, scale_name, *zero_point_name = users[0].input
    if scale_name not in constants:
        return 0.0, 0
    scale = onnx.numpy_helper.to_array(constants[scale_name])
    if scale.size != 1:
        return 0.0, 0
    zero_point = 0
    if zero_point_name and zero_point_name[0] in constants:
        zero_point = int(onnx.numpy_helper.to_array(constants[zero_point_name[0]]).item())
    return float(scale.item()), zero_point


def _users_of_input(graph: Any, constants: dict[str, Any]) -> list[Any]:
    """The nodes that take the graph's first input; constants may be listed as inputs too."""
    for end in graph.input:
        if end.name not in constants:
            return [node for node in graph.node if end.name in node.input]
    return []


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
    """Return the metadata of an ONNX file."""
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
