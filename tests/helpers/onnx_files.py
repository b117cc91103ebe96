"""ONNX files as somebody else would write them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

QUANTISED = {"scale": np.float32(1 / 255), "zero": np.int8(-128)}
DEQUANTISE = helper.make_node("DequantizeLinear", ["pixels", "scale", "zero"], ["pixels_"])


def weights(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.05, (3072, 10)).astype(np.float32)


def linear(
    path: Path,
    shape: tuple[Any, ...],
    kind: int = TensorProto.FLOAT,
    last: str | None = None,
    extra: tuple[Any, ...] = (),
    classes: int = 10,
) -> Path:
    """An ONNX file as another hand would write it: flatten, a matrix, perhaps a softmax; names of its own."""
    nodes = [
        *extra,
        helper.make_node("Cast", ["pixels_" if extra else "pixels"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["cast"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores" if last is None else "logits"]),
    ]
    if last:
        nodes.append(helper.make_node(last, ["logits"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "another hand",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (shape[0], classes))],
        [
            numpy_helper.from_array(np.resize(weights(), (math.prod(shape[1:]), classes)), "w"),
            *(numpy_helper.from_array(np.array(value), name) for name, value in QUANTISED.items() if extra),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path
