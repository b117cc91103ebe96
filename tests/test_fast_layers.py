"""The faster operations compute what Keras's layers compute; dropout drops the right share."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cifar.training import fast_layers

Values = Any
"""A float tensor, (B, H, W, C)."""


def normal(*shape: int, dtype: str = "float32") -> Values:
    return tf.cast(np.random.default_rng(2).normal(0.3, 1.7, shape).astype(np.float32), dtype)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2])
def test_a_convolution_and_its_gradients_equal_those_of_keras(padding: str, strides: int) -> None:
    keras.utils.set_random_seed(1)
    layer = layers.Conv2D(8, 3, padding=padding, strides=strides, activation="relu", bias_initializer="normal")
    layer.build((None, 12, 12, 5))
    assert fast_layers._is_plain_convolution(layer)
    values = tf.constant(np.random.default_rng(2).normal(size=(4, 12, 12, 5)).astype(np.float32))
    results = []
    for run in (layer, lambda x: fast_layers.convolve(layer, x)):
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
        assert not fast_layers._is_plain_convolution(layer), more
    assert fast_layers._is_plain_dropout(layers.Dropout(0.25))
    for rate, shape in ((0.3, None), (0.0, None), (0.5, (None, 1))):
        assert not fast_layers._is_plain_dropout(layers.Dropout(rate, noise_shape=shape))


@pytest.mark.parametrize("rate", [0.25, 0.5, 1 / 256])
def test_dropout_keeps_its_share_and_scales_what_it_keeps(rate: float) -> None:
    n = 1_000_003
    kept = fast_layers.drop(layers.Dropout(rate, seed=4), tf.ones(n)).numpy()
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / (1 - rate))}
    share = (kept > 0).mean()
    deviation = np.sqrt(rate * (1 - rate) / n)
    assert abs(share - (1 - rate)) < 4 * deviation


def test_dropout_masks_differ_between_calls_and_layers() -> None:
    one, other = layers.Dropout(0.5, seed=4), layers.Dropout(0.5, seed=5)
    masks = [fast_layers.drop(layer, tf.ones(4096)).numpy() > 0 for layer in (one, one, one, other)]
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
        kept = fast_layers.drop(layers.Dropout(0.25, seed=1), values)
    gradient = tape.gradient(kept, values).numpy()
    np.testing.assert_allclose(gradient, kept / values, rtol=1e-6)


def output_and_gradients(run: Callable[[Values], Values], values: Values, variables: list[Any]) -> list[Any]:
    """In float32: the output, and the gradients of a function of it by the values and by each variable."""
    with tf.GradientTape() as tape:
        tape.watch(values)
        output = run(values)
        loss = tf.reduce_sum(tf.sin(tf.cast(output, tf.float32)))
    gradients = tape.gradient(loss, [values, *(variable.value for variable in variables)])
    return [tf.cast(tensor, tf.float32).numpy() for tensor in (output, *gradients)]


TOLERANCES = {"float32": 2e-5, "bfloat16": 0.04}  # bfloat16: two roundings of 2**-8 of numbers up to five


@pytest.mark.parametrize("shape", [(5, 7, 9, 3), (1, 2, 3, 1), (8, 15, 15, 64)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalization_equals_that_of_keras(shape: tuple[int, ...], dtype: str, affine: bool) -> None:
    def build() -> Any:
        policy = "mixed_bfloat16" if dtype == "bfloat16" else "float32"
        layer = layers.BatchNormalization(scale=affine, center=affine, momentum=0.6, epsilon=1e-5, dtype=policy)
        layer(keras.Input(shape[1:]))
        for number, variable in enumerate(layer.trainable_variables, start=1):
            variable.assign(np.linspace(0.5, 1.5, shape[-1]) * number)
        return layer

    of_keras, ours = build(), build()
    assert fast_layers.replacement(ours) is fast_layers.normalize
    values = normal(*shape, dtype=dtype)
    expected = output_and_gradients(lambda x: of_keras(x, training=True), values, of_keras.trainable_variables)
    actual = output_and_gradients(lambda x: fast_layers.normalize(ours, x), values, ours.trainable_variables)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype] * np.abs(other).max())
    for one, other in zip(ours.non_trainable_variables, of_keras.non_trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7, 9, 3), (1,), (3, 4099)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_equals_that_of_keras_in_float32(shape: tuple[int, ...], dtype: str) -> None:
    layer = layers.Activation("gelu", dtype="mixed_bfloat16" if dtype == "bfloat16" else "float32")
    layer(keras.Input(shape[1:] or (1,)))
    assert fast_layers.replacement(layer) is fast_layers.gelu
    values = tf.cast(np.linspace(-9, 9, int(np.prod(shape))).reshape(shape), dtype)
    exact = output_and_gradients(keras.activations.gelu, tf.cast(values, tf.float32), [])
    actual = output_and_gradients(lambda x: fast_layers.gelu(layer, x), values, [])
    tolerance = {"float32": 2e-6, "bfloat16": 2**-6}[dtype]
    for one, other in zip(actual, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_normalizations_and_activations_with_other_settings_are_left_to_keras() -> None:
    def normalization(**settings: Any) -> Any:
        layer = layers.BatchNormalization(**settings)
        layer(keras.Input((8, 8, 3)))
        return layer

    frozen = normalization()
    frozen.trainable = False
    flat = layers.BatchNormalization()
    flat(keras.Input((8,)))
    others = [
        frozen, flat, normalization(axis=1), normalization(renorm=True), normalization(dtype="float16"),
        layers.Activation("relu"), layers.Activation("gelu", dtype="float16"), layers.LayerNormalization(),
    ]  # fmt: skip
    assert [fast_layers.replacement(layer) for layer in others] == [None] * len(others)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batch_normalization_and_gelu_give_the_same_bits_twice(dtype: str) -> None:
    policy = "mixed_bfloat16" if dtype == "bfloat16" else "float32"
    normalization, activation = layers.BatchNormalization(dtype=policy), layers.Activation("gelu", dtype=policy)
    activation(normalization(keras.Input((15, 15, 64))))
    values = normal(64, 15, 15, 64, dtype=dtype)

    @tf.function  # type: ignore[untyped-decorator]
    def run(values: Values) -> Values:
        return fast_layers.gelu(activation, fast_layers.normalize(normalization, values))

    first = output_and_gradients(run, values, normalization.trainable_variables)
    for _ in range(5):
        again = output_and_gradients(run, values, normalization.trainable_variables)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
