"""Whitening: the first convolution's kernel from patches of training images (Jordan 2024, arXiv 2404.00498)."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError

LAYER = "whiten"
IMAGES = 5000  # of the training images, the first
EPSILON = 5e-4  # is added to the eigenvalues
CHUNK = 100  # images at once, so that their patches fit the cache


def initialize(model: Any, images: NDArray[np.uint8]) -> None:
    """Set the kernel of a Keras model's layer `whiten`: filters whose outputs are uncorrelated, and their negatives.

    A filter is an eigenvector of the patches' uncentred covariance, divided by the root of its eigenvalue. The same
    images give the same bits on a machine, whatever its threads.

    Args:
        model: whose convolution `whiten` has two filters for each number of a patch.
        images: uint8, (N, 32, 32, 3), of which the first 5,000 are used.

    Raises:
        UsageError: the network has no such layer.
    """
    import keras

    layer = _whitening_layer(model)
    height, width, channels, _ = map(int, layer.kernel.shape)
    inputs = keras.Model(model.inputs, layer.input)
    size = height * width * channels
    total = np.zeros((size, size))
    n = 0
    for start in range(0, min(IMAGES, len(images)), CHUNK):
        chunk = images[start : min(start + CHUNK, IMAGES)]
        patches = _patches(np.asarray(inputs.predict_on_batch(chunk), np.float64), height, width)
        total += np.einsum("ni,nj->ij", patches, patches)  # in one order: a BLAS's depends on its threads
        n += len(patches)
    filters = _whitening_filters(total / n)
    kernel = np.concatenate([filters, -filters]).reshape(-1, height, width, channels)
    layer.kernel.assign(kernel.transpose(1, 2, 3, 0).astype(np.float32))


def _whitening_layer(model: Any) -> Any:
    """Return the layer; raise UsageError if there is none that whitening fits."""
    for layer in model.layers:
        shape = tuple(getattr(layer, "kernel", np.empty(0)).shape)
        if layer.name == LAYER and len(shape) == 4 and shape[3] == 2 * math.prod(shape[:3]):
            return layer
    raise UsageError(
        f"The network '{model.name}' cannot be whitened: it has no convolution '{LAYER}' of two filters for each "
        "number of its patches."
    )


def _patches(images: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """All patches of images (N, H, W, C), each as a row of its rows of pixels: (patches, height * width * C)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(1, 2))
    ordered = windows.transpose(0, 1, 2, 4, 5, 3)  # from (N, rows, columns, C, height, width)
    return ordered.reshape(-1, height * width * images.shape[-1])


def _whitening_filters(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filters as rows, that of the largest eigenvalue first; each one's largest number is positive."""
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    filters = (eigenvectors / np.sqrt(eigenvalues + EPSILON)).T[::-1]
    largest = np.abs(filters).argmax(axis=1)
    signs = np.sign(filters[np.arange(len(filters)), largest])
    positive: NDArray[np.float64] = filters * signs[:, np.newaxis]
    return positive
