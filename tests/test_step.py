"""The training step equals that of Keras up to rounding."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from cifar import networks
from cifar.data.dataset import draw_synthetic
from cifar.recipes import recipe
from cifar.training import checkpoint, loop, step


def images(n: int = 8) -> Any:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)


def targets(n: int = 8) -> Any:
    return np.eye(10, dtype=np.float32)[np.random.default_rng(1).integers(0, 10, n)]


def compiled_model(stack: list[Any]) -> Any:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((32, 32, 3), dtype="uint8"), layers.Rescaling(1 / 255), *stack])
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


HEAD: list[Callable[[], Any]] = [layers.Flatten, lambda: layers.Dense(10, activation="softmax")]
STACKS: dict[str, Callable[[], list[Any]]] = {
    "reference": lambda: [
        layer for layer in networks.build("second").layers[1:] if not isinstance(layer, layers.Dropout)
    ],
    "strided": lambda: [layers.Conv2D(4, 3, strides=2, activation="relu"), *(make() for make in HEAD)],
    "regularised": lambda: [
        layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2"),
        layers.Dropout(0.0),
        *(make() for make in HEAD),
    ],
    "normalised": lambda: [
        layers.Conv2D(4, 3, use_bias=False),  # before a normalization, a bias has no gradient but rounding
        layers.BatchNormalization(),
        layers.Activation("gelu"),
        *(make() for make in HEAD),
    ],
}


@pytest.mark.parametrize("name", STACKS)
def test_without_dropout_a_step_equals_that_of_keras(name: str) -> None:
    ours, keras_model = compiled_model(STACKS[name]()), compiled_model(STACKS[name]())
    keras_model.set_weights(ours.get_weights())
    train_step = step.compile_step(ours)
    for n in (8, 8, 5):  # the last batch of an epoch is a smaller one
        loss, correct = train_step(images(n), targets(n))
        expected, accuracy = (float(value) for value in keras_model.train_on_batch(images(n), targets(n)))
        assert loss == pytest.approx(expected, rel=2e-4)
        assert correct == round(accuracy * n)
    initial_weights = compiled_model(STACKS[name]()).get_weights()
    for actual, expected, initial in zip(ours.get_weights(), keras_model.get_weights(), initial_weights, strict=True):
        largest_update = max(np.abs(expected - initial).max(), 1e-6)
        # RMSprop's first updates have the size of its learning rate: this compares their signs
        assert np.abs(actual - expected).max() <= 0.02 * largest_update


def test_the_state_of_dropout_is_part_of_a_checkpoint() -> None:
    model = loop.build_and_compile(recipe("second", "none"), draw_synthetic(64, 1))
    train_step = step.compile_step(model)
    before = [variable.numpy() for variable in checkpoint.state(model) if "seed" in variable.path]
    train_step(images(), targets())
    after = [variable.numpy() for variable in checkpoint.state(model) if "seed" in variable.path]
    assert len(before) == 4
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


def with_branches() -> Any:
    """A functional model with two branches, an operation that is no layer, and batch normalization."""
    image = keras.Input((32, 32, 3), dtype="uint8")
    features = layers.Rescaling(1 / 255)(image)
    branches = [layers.Conv2D(4, 3, activation="relu", padding="same")(features) for _ in range(2)]
    features = layers.BatchNormalization()(layers.Add()(branches) * 2.0)
    return keras.Model(image, layers.Dense(10, activation="softmax")(layers.Flatten()(features)))


class WithCall(keras.Model):  # type: ignore[misc]
    """A model with a `call` of its own, which the training step must not replace."""

    def __init__(self) -> None:
        image = keras.Input((32, 32, 3), dtype="uint8")
        features = layers.Flatten()(layers.Rescaling(1 / 255)(image))
        super().__init__(image, layers.Dense(10, activation="softmax")(features))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(255 - inputs, training=training, mask=mask)


@pytest.mark.parametrize("build", [with_branches, WithCall])
def test_a_model_that_is_not_sequential_is_trained_as_by_keras(build: Callable[[], Any]) -> None:
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = build()
        model.compile(optimizer="sgd", loss="categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
        models.append(model)
    train_step = step.compile_step(models[0])
    for _ in range(3):
        loss, _correct = train_step(images(), targets())
        expected = models[1].train_on_batch(images(), targets())
        assert loss == pytest.approx(float(expected), rel=2e-4)
    for actual, expected in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)
