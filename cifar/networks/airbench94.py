"""The network of airbench94 (Jordan 2024, arXiv 2404.00498; KellerJordan/cifar10-airbench) in Keras layers."""

from typing import Any

import keras
import numpy as np
from keras import layers

MEAN = (0.4914, 0.4822, 0.4465)  # of CIFAR-10's training images by channel, from 0 to 1
STD = (0.2470, 0.2435, 0.2616)
WHITENING_FILTERS = 24  # the twelve eigenvectors of 2x2 patches of three channels, and their negatives
OUTPUT_SCALE = 1 / 9


def build(name: str, filters: tuple[int, int, int]) -> Any:
    """Return the Keras model: a whitening convolution, three blocks of two convolutions, a dense head.

    The kernel of the layer `whiten` is meant to be set by `whitening.initialize`. Before and after the convolutions
    it computes in float32, in mixed precision too.
    """
    normalize = layers.Rescaling(
        [1 / (255 * std) for std in STD],
        [-mean / std for mean, std in zip(MEAN, STD, strict=True)],
        dtype="float32",
        name="normalize",
    )
    stack = [
        keras.Input((32, 32, 3), dtype="uint8", name="image"),
        normalize,
        layers.Conv2D(WHITENING_FILTERS, 2, name="whiten"),
        layers.Activation("gelu", name="gelu0"),
    ]
    for block, channels in enumerate(filters, start=1):
        stack += [
            _convolution(channels, f"conv{block}a"),
            layers.MaxPooling2D(2, name=f"pool{block}"),
            _normalization(f"norm{block}a"),
            layers.Activation("gelu", name=f"gelu{block}a"),
            _convolution(channels, f"conv{block}b"),
            _normalization(f"norm{block}b"),
            layers.Activation("gelu", name=f"gelu{block}b"),
        ]
    stack += [
        layers.MaxPooling2D(3, name="pool4"),
        layers.Flatten(name="flatten"),
        layers.Dense(10, use_bias=False, kernel_initializer=_uniform(), dtype="float32", name="head"),
        layers.Rescaling(OUTPUT_SCALE, dtype="float32", name="scale"),
        layers.Softmax(dtype="float32", name="probabilities"),
    ]
    model = keras.Sequential(stack, name=name)
    for layer in model.layers:
        if layer.name.startswith("conv"):
            _pass_channels_on(layer)
    return model


def _convolution(channels: int, name: str) -> Any:
    return layers.Conv2D(channels, 3, padding="same", use_bias=False, kernel_initializer=_uniform(), name=name)


def _normalization(name: str) -> Any:
    return layers.BatchNormalization(scale=False, momentum=0.6, epsilon=1e-12, name=name)


def _uniform() -> Any:
    """PyTorch's default: uniform within 1 / sqrt(fan-in) of 0."""
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")


def _pass_channels_on(convolution: Any) -> None:
    """Make the first filters of a convolution the identity, one for each input channel (Dirac initialisation)."""
    kernel = np.array(convolution.kernel)
    height, width, inputs, outputs = kernel.shape
    n = min(inputs, outputs)
    kernel[..., :n] = 0
    kernel[height // 2, width // 2, range(n), range(n)] = 1
    convolution.kernel.assign(kernel)
