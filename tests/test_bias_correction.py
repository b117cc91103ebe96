"""Biases that make up for kernels rounded to 8 bits."""

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import layers
from numpy.typing import NDArray

from cifar.formats.bias_correction import round_to_8_bits, with_corrected_biases

KERNELS = arrays(np.float64, (3, 3, 2, 4), elements=st.floats(-9, 9))


def images(n: int = 60) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(90, 256, (n, 32, 32, 3), dtype=np.uint8)


def network() -> Any:
    """Two convolutions, of which a batch norm follows the second, and a dense layer; on unscaled pixels."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), dtype="uint8")
    features = layers.Conv2D(6, 3, activation="relu", name="one")(layers.Rescaling(1.0)(image))
    features = layers.Conv2D(6, 3, strides=2, name="two")(features)
    features = layers.ReLU()(layers.BatchNormalization()(features))
    features = layers.GlobalAveragePooling2D()(features)
    return keras.Model(image, layers.Dense(10, name="three")(features))


def with_rounded_kernels(model: Any, names: tuple[str, ...] = ("one", "two", "three")) -> Any:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name in names:
        kernel = copy.get_layer(name).kernel
        kernel.assign(round_to_8_bits(kernel.numpy().astype(np.float64)))
    return copy


def mean_error(model: Any, expected: Any, name: str) -> NDArray[np.float64]:
    """The mean difference by channel of what a layer gives before its activation."""
    means = []
    for network in (model, expected):
        layer = network.get_layer(name)
        before = keras.Model(network.inputs[0], layer.input)(images(), training=False)
        layer.activation = keras.activations.linear
        means.append(np.asarray(layer(before), np.float64).reshape(-1, layer.bias.shape[0]).mean(axis=0))
    difference: NDArray[np.float64] = means[0] - means[1]
    return difference


@given(KERNELS)
@settings(max_examples=50, deadline=None)
def test_a_rounded_kernel_has_255_values_and_is_within_half_a_step(kernel: NDArray[np.float64]) -> None:
    rounded = round_to_8_bits(kernel)
    step = np.abs(kernel).reshape(-1, 4).max(axis=0) / 127
    assert (np.abs(rounded - kernel) <= step / 2 * (1 + 1e-9) + 1e-300).all()
    np.testing.assert_allclose(round_to_8_bits(rounded), rounded, rtol=1e-12)


@pytest.mark.parametrize("name", ["one", "three"])
def test_the_mean_error_of_a_rounded_kernel_is_gone(name: str) -> None:
    model = network()
    rounded = with_rounded_kernels(model, (name,))
    corrected = with_rounded_kernels(with_corrected_biases(model, images()), (name,))
    for other in {"one", "two", "three"} - {name}:
        corrected.get_layer(other).bias.assign(model.get_layer(other).bias)
    before = np.abs(mean_error(rounded, network(), name)).max()
    after = np.abs(mean_error(corrected, network(), name)).max()
    assert after < before / 100


def test_the_outputs_of_rounded_kernels_come_closer() -> None:
    model = network()
    expected = model(images(), training=False).numpy()
    distances = []
    for start in (model, with_corrected_biases(model, images())):
        actual = with_rounded_kernels(start)(images(), training=False).numpy()
        distances.append(np.abs((actual - expected).mean(axis=0)).max())
    assert distances[1] < distances[0] / 3


def test_only_biases_change_and_not_those_of_layers_kept_in_float() -> None:
    model = network()
    before = [weight.copy() for weight in model.get_weights()]
    corrected = with_corrected_biases(model, images(), ["two"])
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, old)
    changed = []
    for old, new in zip(model.weights, corrected.weights, strict=True):
        if not np.array_equal(old.numpy(), new.numpy()):
            changed.append(new.path)
    assert changed == ["one/bias", "three/bias"]


def test_layers_it_cannot_correct_stay_as_they_are() -> None:
    image = keras.Input((32, 32, 3), dtype="uint8")
    features = layers.Rescaling(1.0)(image)
    features = layers.Conv2D(6, 3, groups=3, name="grouped")(features)
    features = layers.Conv2D(6, 3, use_bias=False, name="no_bias")(features)
    features = layers.DepthwiseConv2D(3, name="depthwise")(features)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(features))
    corrected = with_corrected_biases(model, images(4))
    for old, new in zip(model.get_weights(), corrected.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
