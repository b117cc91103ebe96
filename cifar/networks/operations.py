"""How much arithmetic a network takes."""

import math
from collections.abc import Sequence
from typing import Any


def multiply_adds(model: Any) -> int | None:
    """Return the multiply-adds for one image in the layers of a Keras model that have a kernel (convolutions, dense).

    None if a layer is used twice, or another kind of layer (a nested model, for example) has a matrix of weights.
    """
    counts = _multiply_adds_by_layer(model)
    if not counts:
        return None
    return sum(counts)


def training_flop(model: Any) -> int | None:
    """Return the floating-point operations of a training step for one image; None as for `multiply_adds`.

    Two operations per multiply-add, for each of forward, gradient of the kernels and gradient of the inputs; the
    first layer's input needs no gradient.
    """
    counts = _multiply_adds_by_layer(model)
    if not counts:
        return None
    return 6 * sum(counts) - 2 * counts[0]


def _multiply_adds_by_layer(model: Any) -> list[int]:
    """Return the multiply-adds of each layer with a kernel; an empty list if that is not all of the arithmetic."""
    from keras import layers

    counted = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv2D)
    kernel_layers = [layer for layer in model.layers if isinstance(layer, counted)]
    if not _each_used_once(model, kernel_layers) or not _hold_every_matrix(model, kernel_layers):
        return []
    counts = []
    for layer in kernel_layers:
        positions = math.prod(layer.output.shape[1:-1])
        counts.append(int(math.prod(layer.kernel.shape) * positions))
    return counts


def _each_used_once(model: Any, kernel_layers: Sequence[Any]) -> bool:
    import keras

    return isinstance(model, keras.Sequential) or all(len(layer._inbound_nodes) == 1 for layer in kernel_layers)


def _hold_every_matrix(model: Any, kernel_layers: Sequence[Any]) -> bool:
    """Whether every weight of the model with more than one dimension is the kernel of one of these layers."""
    matrices = {id(weight) for weight in model.weights if len(weight.shape) > 1}
    kernels = {id(layer.kernel) for layer in kernel_layers}
    return matrices == kernels
