"""ResNet-8 of MLPerf Tiny (mlcommons/tiny, benchmark/training/image_classification): 78,666 parameters."""

from typing import Any

import keras
from keras import layers

WEIGHT_PENALTY = 1e-4  # L2, of the kernels of the convolutions


def build(name: str, filters: tuple[int, int, int]) -> Any:
    """Return the Keras model: three stacks of two 3x3 convolutions and a shortcut, on unscaled pixels."""
    image = keras.Input((32, 32, 3), dtype="uint8", name="image")
    features = layers.Rescaling(1.0, name="float")(image)
    features = _convolve(features, filters[0], 3, name="conv0")
    features = layers.BatchNormalization(name="norm0")(features)
    features = layers.ReLU(name="relu0")(features)
    for stack, channels in enumerate(filters, start=1):
        features = _residual_stack(features, channels, stack, stride=1 if stack == 1 else 2)
    features = layers.AveragePooling2D(features.shape[1], name="pool")(features)
    features = layers.Flatten(name="flatten")(features)
    head = layers.Dense(10, activation="softmax", kernel_initializer="he_normal", name="probabilities")
    return keras.Model(image, head(features), name=name)


def _residual_stack(features: Any, channels: int, stack: int, stride: int) -> Any:
    """Two convolutions, added to the shortcut: a 1x1 convolution where the shape changes, else the features."""
    shortcut = features
    if stride != 1:
        shortcut = _convolve(features, channels, 1, stride, name=f"shortcut{stack}")
    features = _convolve(features, channels, 3, stride, name=f"conv{stack}a")
    features = layers.BatchNormalization(name=f"norm{stack}a")(features)
    features = layers.ReLU(name=f"relu{stack}a")(features)
    features = _convolve(features, channels, 3, name=f"conv{stack}b")
    features = layers.BatchNormalization(name=f"norm{stack}b")(features)
    features = layers.Add(name=f"add{stack}")([shortcut, features])
    return layers.ReLU(name=f"relu{stack}b")(features)


def _convolve(features: Any, channels: int, size: int, stride: int = 1, *, name: str) -> Any:
    convolution = layers.Conv2D(
        channels,
        size,
        strides=stride,
        padding="same",
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(WEIGHT_PENALTY),
        name=name,
    )
    return convolution(features)
