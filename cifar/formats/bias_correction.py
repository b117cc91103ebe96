"""Biases that make up for the rounding of the kernels to 8 bits (Nagel et al. 2019, arXiv 1906.04721, 4.2).

A rounding error times the mean of its input shifts an output for every image. It is largest in the first layer of a
network on pixels of 0 to 255, whose mean is far from 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 127  # of a kernel's integers; 0 is in the middle
BATCH = 100  # images at once


def with_corrected_biases(model: Any, images: NDArray[np.uint8], keep_float: Sequence[str] = ()) -> Any:
    """Return a copy of a functional Keras model, the mean error of rounding its kernels subtracted from the biases.

    Layers without a bias stay as they are; one that is used several times is corrected for its first use.

    Args:
        model: the model in float32.
        images: training images (N, 32, 32, 3), uint8, over which the mean is taken.
        keep_float: names of layers that are not rounded.
    """
    import keras

    inputs = {}
    for layer in model.layers:
        tensor = _input_of(layer)
        if tensor is not None and layer.name not in keep_float:
            inputs[layer.name] = tensor
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name, mean_input in _means_by_channel(model, inputs, images).items():
        layer = copy.get_layer(name)
        kernel = layer.kernel.numpy().astype(np.float64)
        shift = (round_to_8_bits(kernel) - kernel) * mean_input[:, np.newaxis]
        layer.bias.assign(layer.bias - shift.reshape(-1, kernel.shape[-1]).sum(axis=0))
    return copy


def round_to_8_bits(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values that an int8 kernel (..., inputs, outputs) with a scale per output stands for."""
    largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
    scale = np.where(largest == 0, 1, largest) / LARGEST
    rounded: NDArray[np.float64] = np.round(kernel / scale) * scale
    return rounded


def _input_of(layer: Any) -> Any:
    """The input of a layer that is the product of all its channels with a kernel, plus a bias; else None."""
    import keras

    is_convolution = type(layer) is keras.layers.Conv2D and layer.groups == 1
    if not (is_convolution or type(layer) is keras.layers.Dense) or layer.bias is None:
        return None
    return layer.input


def _means_by_channel(
    model: Any, tensors: dict[str, Any], images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float64]]:
    """The mean of each tensor by channel, over images and places; a convolution's padding is left out of account."""
    import keras

    if not tensors:
        return {}
    features_of = keras.Model(model.inputs[0], tensors)
    means = {name: np.zeros(tensor.shape[-1]) for name, tensor in tensors.items()}
    for start in range(0, len(images), BATCH):
        for name, features in features_of(images[start : start + BATCH], training=False).items():
            by_image = np.asarray(features, np.float64).reshape(len(features), -1, features.shape[-1]).mean(axis=1)
            means[name] += by_image.sum(axis=0) / len(images)
    return means
