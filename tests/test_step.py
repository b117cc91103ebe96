"""The training step equals that of Keras up to rounding; dropout drops the right share."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
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
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
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


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2])
def test_a_convolution_and_its_gradients_equal_those_of_keras(padding: str, strides: int) -> None:
    keras.utils.set_random_seed(1)
    layer = layers.Conv2D(8, 3, padding=padding, strides=strides, activation="relu", bias_initializer="normal")
    layer.build((None, 12, 12, 5))
    assert step._is_plain_convolution(layer)
    values = tf.constant(np.random.default_rng(2).normal(size=(4, 12, 12, 5)).astype(np.float32))
    results = []
    for run in (layer, lambda x: step.convolve(layer, x)):
        with tf.GradientTape() as tape:
            tape.watch(values)
            output = run(values)
            loss = tf.reduce_sum(output * tf.cos(output))
        results.append([output, *tape.gradient(loss, [values, layer.kernel.value, layer.bias.value])])
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_layers_with_other_settings_are_left_to_keras() -> None:
    plain = {"filters": 4, "kernel_size": 3, "activation": "relu"}
    for more in (
        {"activation": "tanh"}, {"use_bias": False}, {"filters": 6, "groups": 3}, {"dilation_rate": 2},
        {"activity_regularizer": "l2"}, {"dtype": "float16"},
    ):  # fmt: skip
        layer = layers.Conv2D(**{**plain, **more})
        layer.build((None, 8, 8, 3))
        assert not step._is_plain_convolution(layer), more
    assert step._is_plain_dropout(layers.Dropout(0.25))
    for rate, shape in ((0.3, None), (0.0, None), (0.5, (None, 1))):
        assert not step._is_plain_dropout(layers.Dropout(rate, noise_shape=shape))


@pytest.mark.parametrize("rate", [0.25, 0.5, 1 / 256])
def test_dropout_keeps_its_share_and_scales_what_it_keeps(rate: float) -> None:
    n = 1_000_003
    kept = step.drop(layers.Dropout(rate, seed=4), tf.ones(n)).numpy()
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / (1 - rate))}
    share = (kept > 0).mean()
    deviation = np.sqrt(rate * (1 - rate) / n)
    assert abs(share - (1 - rate)) < 4 * deviation


def test_dropout_masks_differ_between_calls_and_layers() -> None:
    one, other = layers.Dropout(0.5, seed=4), layers.Dropout(0.5, seed=5)
    masks = [step.drop(layer, tf.ones(4096)).numpy() > 0 for layer in (one, one, one, other)]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            for shift in (0, 4, 16, 64):  # a counter that went on by one would give the same bytes, moved along
                agreement = (a[shift:] == b[: len(b) - shift]).mean()
                assert 0.45 < agreement < 0.55
                agreement = (b[shift:] == a[: len(a) - shift]).mean()
                assert 0.45 < agreement < 0.55


def test_dropout_passes_the_gradient_where_it_passed_the_value() -> None:
    values = tf.constant(np.linspace(1, 2, 1000, dtype=np.float32))
    with tf.GradientTape() as tape:
        tape.watch(values)
        kept = step.drop(layers.Dropout(0.25, seed=1), values)
    gradient = tape.gradient(kept, values).numpy()
    np.testing.assert_allclose(gradient, kept / values, rtol=1e-6)


def test_the_state_of_dropout_is_part_of_a_checkpoint() -> None:
    model = loop.build_and_compile(recipe("second", "none"), draw_synthetic(64, 1))
    train_step = step.compile_step(model)
    before = [variable.numpy() for variable in checkpoint.state(model) if "seed" in variable.path]
    train_step(images(), targets())
    after = [variable.numpy() for variable in checkpoint.state(model) if "seed" in variable.path]
    assert len(before) == 4
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


def test_a_model_that_is_not_sequential_is_trained_too() -> None:
    image = keras.Input((32, 32, 3), dtype="uint8")
    features = layers.Rescaling(1 / 255)(image)
    branches = [layers.Conv2D(4, 3, activation="relu", padding="same")(features) for _ in range(2)]
    features = layers.Flatten()(layers.Add()(branches))
    model = keras.Model(image, layers.Dense(10, activation="softmax")(features))
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    train_step = step.compile_step(model)
    losses = [train_step(images(), targets())[0] for _ in range(10)]
    assert losses[-1] < losses[0]
