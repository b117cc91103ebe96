"""A first convolution that whitens patches of the training images, as in airbench94."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError

LAYER = "whiten"
IMAGES = 5000  # whose patches are used
SMALLEST_VARIANCE = 5e-4  # added to each, so that noise is not blown up


def whiten(model: Any, images: NDArray[np.uint8]) -> None:
    """Set the kernel of a model's layer `whiten` to the whitening filters of the first images, and their negatives.

    The filters are the eigenvectors of the patches' covariance (not centred), each divided by its standard deviation,
    those of the largest variance first. The patches are what the layer sees: the outputs of the layers before it.

    Args:
        model: a Keras model.
        images: uint8, (N, 32, 32, 3).

    Raises:
        UsageError: the model has no such layer, or its kernel is not twice as many filters as a patch has values.
    """
    import keras

    names = [layer.name for layer in model.layers]
    if LAYER not in names:
        raise UsageError(f"initialization 'whitening': the network '{model.name}' has no layer named '{LAYER}'.")
    layer = model.get_layer(LAYER)
    height, width, channels, n_filters = layer.kernel.shape
    patch_size = height * width * channels
    if n_filters != 2 * patch_size:
        raise UsageError(
            f"initialization 'whitening': layer '{LAYER}' needs {2 * patch_size} filters, not {n_filters}."
        )
    before = keras.Model(model.inputs, layer.input)
    inputs = np.asarray(before.predict_on_batch(images[:IMAGES]), np.float64)
    filters = _whitening_filters(inputs, height, width)
    kernel = np.concatenate([filters, -filters]).reshape(n_filters, height, width, channels)
    weights = [kernel.transpose(1, 2, 3, 0), *layer.get_weights()[1:]]
    layer.set_weights(weights)


def _whitening_filters(inputs: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Return the filters, (P, P), of inputs (N, H, W, C) in patches of P = height x width x C values.

    An eigenvector's sign is arbitrary: its largest value is made positive.
    """
    windows = np.lib.stride_tricks.sliding_window_view(inputs, (height, width), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height * width * inputs.shape[3])
    covariance = patches.T @ patches / len(patches)
    variances, vectors = np.linalg.eigh(covariance)
    filters = (vectors / np.sqrt(variances + SMALLEST_VARIANCE)).T[::-1]
    largest = np.take_along_axis(filters, np.abs(filters).argmax(axis=1)[:, np.newaxis], axis=1)
    signed: NDArray[np.float64] = filters * np.sign(largest)
    return signed
