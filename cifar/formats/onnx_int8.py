"""ONNX in 8-bit integers: activations uint8, weights int8 per channel, quantised by ONNX Runtime.

The softmax stays in float32, so that the rows of probabilities still sum to 1.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import one_of
from cifar.formats import INPUT, Source
from cifar.formats.logits import Logits, NotCentred, output_model
from cifar.formats.onnx import convert, read_metadata, save
from cifar.system import hardware

__all__ = ["read_metadata", "write"]

OPERATIONS = ["Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Reshape", "Transpose"]
WITH_KERNEL = ("Conv", "Gemm", "MatMul")
BATCH = 100  # calibration images at once


def write(source: Source, path: Path) -> None:
    """Write an ONNX file whose ranges are the smallest and largest activations of the calibration images.

    The range of the logits is another where `source.logits` says one.

    Raises:
        UsageError: a layer in `source.keep_float` has no kernel, or is not there.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if isinstance(source.logits, Logits):
        source = replace(source, model=output_model(source.logits))

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(source.calibration)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            return next(self._batches, None)

    with tempfile.TemporaryDirectory() as scratch, hardware.quiet(show_failure=False):
        converted, prepared, quantised = map(Path(scratch).joinpath, ("converted", "prepared", "quantised"))
        onnx.save(convert(source), str(converted))
        quant_pre_process(str(converted), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(prepared)).graph
        quantization.quantize_static(
            str(prepared),
            str(quantised),
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=OPERATIONS,
            nodes_to_exclude=_nodes_of(graph, source.keep_float),
            extra_options={"TensorQuantOverrides": _ranges(graph, source.logits)},
        )
        proto = onnx.load(str(quantised))
    save(proto, source.metadata, path)


def _nodes_of(graph: Any, layers: Sequence[str]) -> list[str]:
    """Return the names of the nodes that multiply by the kernels of some layers.

    tf2onnx calls them MODEL/LAYER_1/OPERATION; a batch norm after a convolution gives its name to both.
    """
    nodes: dict[str, list[str]] = {}
    for node in graph.node:
        if node.op_type in WITH_KERNEL and node.name.count("/") > 1:
            layer = node.name.split("/")[1].removesuffix("_1")
            nodes.setdefault(layer, []).append(node.name)
    chosen = []
    for layer in layers:
        chosen += nodes[one_of("layer with a kernel called", layer, nodes)]
    return chosen


def _ranges(graph: Any, logits: Logits | NotCentred | None) -> dict[str, list[dict[str, Any]]]:
    """Return the ranges that are not those of the calibration, as ONNX Runtime takes them, by tensor."""
    if not isinstance(logits, Logits) or logits.range is None:
        return {}
    last = graph.node[-1]
    tensor = last.input[0] if logits.softmax else last.output[0]
    lowest, highest = map(np.float32, logits.range)
    return {tensor: [{"rmin": lowest, "rmax": highest}]}


def _batches(images: NDArray[np.uint8]) -> Iterator[dict[str, NDArray[np.uint8]]]:
    for start in range(0, len(images), BATCH):
        yield {INPUT: images[start : start + BATCH]}
