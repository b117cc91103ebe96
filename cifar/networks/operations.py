"""How much arithmetic a network takes."""

import math
from typing import Any


def multiply_adds(model: Any) -> int | None:
    """Multiply-adds for one image, of those layers of a Keras model that have a kernel (convolutions, dense layers).

    None where a layer is used twice, or a matrix of weights is another kind of layer's (a nested model's, say).
    """
    counts = _multiply_adds_by_layer(model)
    return sum(counts) if counts else None


def training_flop(model: Any) -> int | None:
    """Floating-point operations of a training step for one image; None as above.

    Forward, and backward for kernels and for inputs: two operations per multiply-add each; but the first layer's
    input needs no gradient.
    """
    counts = _multiply_adds_by_layer(model)
    return 6 * sum(counts) - 2 * counts[0] if counts else None


def _multiply_adds_by_layer(model: Any) -> list[int] | None:
    import keras
    from keras import layers

    counted = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv2D)
    kernels = [layer for layer in model.layers if isinstance(layer, counted)]
    matrices = {id(weight) for weight in model.weights if len(weight.shape) > 1}
    once = isinstance(model, keras.Sequential) or all(len(layer._inbound_nodes) == 1 for layer in kernels)
    if not once or matrices != {id(layer.kernel) for layer in kernels}:
        return None
    return [int(math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])) for layer in kernels]
