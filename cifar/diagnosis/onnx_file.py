"""Diagnosis of an ONNX file with pairs of QuantizeLinear and DequantizeLinear (QDQ), in a child process.

onnxruntime.quantization.qdq_loss_debug collects and compares the tensors; single quantisers are switched off by an
edit of the graph.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.diagnosis.onnx_weights import find_weights, with_float_weights
from cifar.diagnosis.schemas import Diagnosis, QuantizedTensor, QuantizedWeights
from cifar.diagnosis.signal import share_of_close, share_outside, signal_to_noise, with_mean_of
from cifar.errors import UsageError
from cifar.formats.onnx import check_external_data
from cifar.inference.external import ExternalModel, load_external
from cifar.inference.preprocessing import Preprocessing
from cifar.metrics.classification import predict

TENSOR_IMAGES = 64  # whose tensors are kept: all of a network's, in float32
Advance = Callable[[int], None]  # of how many steps one is done


@dataclass(frozen=True)
class Quantizer:
    """A QuantizeLinear of an activation and the DequantizeLinear that takes what it gives.

    Attributes:
        quantize, dequantize: the nodes.
        scale: the step between two integers.
        lowest, highest: of its range. If the lowest is 0 it is a ReLU too: ONNX Runtime leaves that node out.
    """

    quantize: Any
    dequantize: Any
    scale: float
    lowest: float
    highest: float

    @property
    def source(self) -> str:
        """The tensor before rounding."""
        return str(self.quantize.input[0])

    @property
    def result(self) -> str:
        """The tensor after it."""
        return str(self.dequantize.output[0])


def diagnose(
    path: Path, float_path: Path, images: NDArray[np.uint8], preprocessing: Preprocessing, advance: Advance
) -> Diagnosis:
    """Compare an int8 file with its float twin.

    Args:
        path: of the int8 file.
        float_path: of the float file.
        images: uint8 (N, 32, 32, 3).
        preprocessing: of both files; an empty one if they say it themselves.
        advance: is called after each run of the images.

    Raises:
        UsageError: the file has no such pairs, or one of the two does not fit.
    """
    import onnx

    for file in (path, float_path):
        check_external_data(file)
    proto = onnx.load(str(path))
    quantizers = find_quantizers(proto)
    if not quantizers:
        raise UsageError(
            f"{path}: it has no pairs of QuantizeLinear and DequantizeLinear of activations (QDQ format)."
        )
    expected = predict(load_external("onnx", float_path, 2, preprocessing), images).argmax(axis=1)
    layers = find_weights(proto, float_path)
    steps = 2 * len(quantizers) + len(layers) + 2

    def agreement_of(edited_proto: Any) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            edited = Path(scratch, "edited.onnx")
            onnx.save(edited_proto, str(edited))
            predicted = predict(load_external("onnx", edited, 2, preprocessing), images).argmax(axis=1)
        advance(steps)
        return float((predicted == expected).mean())

    values = _tensors(path, load_external("onnx", path, 2, preprocessing), images)
    twin = _tensors(float_path, load_external("onnx", float_path, 2, preprocessing), images)
    logits = _logits(proto, quantizers)
    if logits in twin and logits in values:
        twin[logits] = with_mean_of(twin[logits], values[logits])
    tensors = []
    for quantizer in quantizers:
        others = [other for other in quantizers if other is not quantizer]
        without, alone = (agreement_of(switched_off(proto, off)) for off in ([quantizer], others))
        tensors.append(_tensor(quantizer, values, twin, without, alone))
    weights = []
    for layer in layers:
        snr = signal_to_noise(layer.kernel, layer.rounded)
        weights.append(QuantizedWeights(layer.name, snr, agreement_of(with_float_weights(proto, [layer]))))
    step = next((tensor.step for tensor in tensors if tensor.name == logits), None)
    return Diagnosis(
        n_images=len(images),
        agreement=agreement_of(proto),
        agreement_of_weights=agreement_of(switched_off(proto, quantizers)),
        logits=logits,
        close=None if step is None or logits not in values else share_of_close(values[logits], step),
        tensors=tuple(tensors),
        weights=tuple(weights),
    )


def find_quantizers(proto: Any) -> list[Quantizer]:
    """Return the quantisers of the activations of an onnx.ModelProto, in its order."""
    import onnx

    users: dict[str, list[Any]] = {}
    for node in proto.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    found = []
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or not constants.keys().isdisjoint(node.input[:1]):
            continue
        for user in users.get(node.output[0], []):
            if user.op_type == "DequantizeLinear":
                found.append(_quantizer(node, user, constants))
    return found


def _quantizer(quantize: Any, dequantize: Any, constants: dict[str, NDArray[Any]]) -> Quantizer:
    scale, zero_point = (constants[name].reshape(-1)[0] for name in quantize.input[1:3])
    limits = np.iinfo(zero_point.dtype)
    lowest, highest = (float(scale) * (int(limit) - int(zero_point)) for limit in (limits.min, limits.max))
    return Quantizer(quantize, dequantize, float(scale), lowest, highest)


def switched_off(proto: Any, off: Sequence[Quantizer]) -> Any:
    """Return a copy of an onnx.ModelProto in which some tensors are not rounded."""
    import onnx

    by_result = {quantizer.result: quantizer for quantizer in off}
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.node[:]
    for node in proto.graph.node:
        quantizer = by_result.get(node.output[0])
        if quantizer is not None:
            operation = "Identity" if quantizer.lowest else "Relu"
            node = onnx.helper.make_node(operation, [quantizer.source], [quantizer.result], name=node.name)
        copy.graph.node.append(node)
    return copy


def _tensors(path: Path, model: ExternalModel, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Return all float tensors of a file for the first images, flat."""
    import onnx
    from onnxruntime.quantization import qdq_loss_debug

    name = onnx.load(str(path)).graph.input[0].name
    with tempfile.TemporaryDirectory() as scratch:
        augmented = str(Path(scratch, "augmented.onnx"))
        qdq_loss_debug.modify_model_output_intermediate_tensors(str(path), augmented)
        collected = qdq_loss_debug.collect_activations(
            augmented, [{name: batch} for batch in model.input_batches(images[:TENSOR_IMAGES])]
        )
    return {tensor: np.concatenate(batches) for tensor, batches in collected.items()}


def _tensor(
    quantizer: Quantizer,
    values: dict[str, NDArray[np.float32]],
    twin: dict[str, NDArray[np.float32]],
    without: float,
    alone: float,
) -> QuantizedTensor:
    before, after = values[quantizer.source], values[quantizer.result]
    if quantizer.lowest == 0:
        before = np.maximum(before, 0)
    in_twin = twin.get(quantizer.source)
    return QuantizedTensor(
        name=quantizer.source,
        lowest=quantizer.lowest,
        highest=quantizer.highest,
        step=quantizer.scale,
        clipped=share_outside(before, quantizer.lowest, quantizer.highest, quantizer.scale),
        snr=signal_to_noise(before, after),
        twin_snr=None if in_twin is None or in_twin.shape != after.shape else signal_to_noise(in_twin, after),
        agreement_without=without,
        agreement_alone=alone,
    )


def _logits(proto: Any, quantizers: Sequence[Quantizer]) -> str | None:
    """The quantised tensor that the softmax takes, or that is the output."""
    producers = {name: node for node in proto.graph.node for name in node.output}
    name = proto.graph.output[0].name
    node = producers.get(name)
    if node is not None and node.op_type == "Softmax":
        name = node.input[0]
    for quantizer in quantizers:
        if quantizer.result == name:
            return quantizer.source
    return None
