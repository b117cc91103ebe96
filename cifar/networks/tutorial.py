"""The published networks: six 3x3 convolutions in three stages, then a dense head."""

from typing import Any

import keras
from keras import layers


def build(name: str, filters: tuple[int, int, int]) -> Any:
    """Return the Keras model. Every layer is named: names are part of the digest."""
    stack = [keras.Input((32, 32, 3), dtype="uint8", name="image"), layers.Rescaling(1 / 255, name="scale")]
    for stage, channels in enumerate(filters, start=1):
        stack += [
            layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"conv{stage}a"),
            layers.Conv2D(channels, 3, padding="valid", activation="relu", name=f"conv{stage}b"),
            layers.MaxPooling2D(2, name=f"pool{stage}"),
            layers.Dropout(0.25, name=f"dropout{stage}"),
        ]
    stack += [
        layers.Flatten(name="flatten"),
        layers.Dense(512, activation="relu", name="dense"),
        layers.Dropout(0.5, name="dropout"),
        layers.Dense(10, activation="softmax", name="probabilities"),
    ]
    return keras.Sequential(stack, name=name)
