"""Optimizers and learning rates of recipes, against formulas in NumPy."""

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import train_here
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cifar import networks
from cifar.data.dataset import Dataset, draw_synthetic
from cifar.errors import UsageError
from cifar.recipes import Recipe, recipe
from cifar.runs.run import Run
from cifar.training import lookahead, loop, optimizers, step
from cifar.training.optimizers import Schedule

SHARES = st.floats(0, 1, width=32)


def small_recipe(network: str = "second", epochs: int = 2, **fields: Any) -> Recipe:
    return recipe(network, "shift-flip", epochs=epochs, dataset="synthetic", fields=fields)


def expected_rate(step: int, steps: int, shape: str, warmup: float, initial: float, final: float) -> float:
    progress = step / steps
    if progress < warmup:
        return initial + (1 - initial) * progress / warmup
    after = (progress - warmup) / (1 - warmup)
    if shape == "linear":
        return 1 - (1 - final) * after
    if shape == "cosine":
        return final + (1 - final) * (1 + math.cos(math.pi * after)) / 2
    return 1.0


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 99), st.sampled_from(["constant", "linear", "cosine"]), st.floats(0, 0.9), SHARES, SHARES)
def test_the_learning_rate_is_that_of_the_formula(
    step: int, shape: str, warmup: float, initial: float, final: float
) -> None:
    schedule = Schedule(0.5, 100, shape=shape, warmup=warmup, initial=initial, final=final)
    expected = 0.5 * expected_rate(step, 100, shape, warmup, initial, final)
    assert float(schedule(step)) == pytest.approx(expected, abs=1e-5)
    assert -1e-6 <= float(schedule(step)) <= 0.5 + 1e-6


def test_a_schedule_can_be_made_again_from_its_configuration() -> None:
    schedule = Schedule(0.5, 100, shape="cosine", warmup=0.1, initial=0.2, final=0.3)
    again = Schedule.from_config(schedule.get_config())
    assert [float(again(step)) for step in range(100)] == [float(schedule(step)) for step in range(100)]


def test_a_constant_learning_rate_is_a_number_as_before() -> None:
    optimizer = optimizers.build(small_recipe(), 10)
    assert type(optimizer) is keras.optimizers.RMSprop
    assert float(optimizer.learning_rate) == pytest.approx(0.001)


def sgd(**fields: Any) -> Recipe:
    return small_recipe(optimizer="sgd", momentum=0.9, learning_rate=0.1, **fields)


def apply(wanted: Recipe, gradients: list[float], steps_per_epoch: int = 1) -> NDArray[np.float64]:
    """The values of a weight `layer/kernel` and of a bias `layer/bias`, both 1 before, after each step."""
    layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones", name="layer")
    layer.build((None, 1))
    optimizer = optimizers.build(wanted, steps_per_epoch)
    optimizer.build(layer.trainable_variables)
    values = []
    for gradient in gradients:
        optimizer.apply([np.full((1, 1), gradient, np.float32), np.full(1, gradient, np.float32)])
        values.append([float(layer.kernel.numpy()[0, 0]), float(layer.bias.numpy()[0])])
    return np.array(values)


def by_hand(gradients: list[float], rates: list[float], l2: float = 0.0, multiplier: float = 1.0) -> list[float]:
    """Nesterov momentum 0.9 as PyTorch's documentation states it."""
    weight, buffer, weights = 1.0, 0.0, []
    for gradient, rate in zip(gradients, rates, strict=True):
        with_l2 = gradient + l2 / multiplier * weight
        buffer = 0.9 * buffer + with_l2
        weight -= rate * multiplier * (with_l2 + 0.9 * buffer)
        weights.append(weight)
    return weights


def test_sgd_is_pytorchs_where_the_rate_changes() -> None:
    wanted = sgd(epochs=3, schedule="linear", weight_decay=0.01)
    values = apply(wanted, [0.5, -1.0, 0.25])
    expected = by_hand([0.5, -1.0, 0.25], [0.1, 0.1 * 2 / 3, 0.1 / 3], l2=0.01)
    np.testing.assert_allclose(values[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(values[:, 1], expected, rtol=1e-5)


def test_a_rate_multiplier_and_a_frozen_variable_concern_what_their_pattern_matches() -> None:
    wanted = sgd(weight_decay=0.01, rate_multipliers={"*/bias": 4.0}, frozen_after={"layer/kernel": 1})
    values = apply(wanted, [0.5, -1.0, 0.25], steps_per_epoch=2)
    np.testing.assert_allclose(values[:, 1], by_hand([0.5, -1.0, 0.25], [0.1] * 3, 0.01, 4.0), rtol=1e-5)
    np.testing.assert_allclose(values[:2, 0], by_hand([0.5, -1.0], [0.1] * 2, 0.01), rtol=1e-5)
    assert values[2, 0] == values[1, 0]  # frozen after one epoch of two steps


@pytest.mark.parametrize("field", ["rate_multipliers", "frozen_after"])
def test_a_pattern_without_a_variable_is_refused(field: str) -> None:
    with pytest.raises(UsageError, match=rf"{field}: no variable matches 'layer/kernle'; there are layer/kernel"):
        apply(sgd(**{field: {"layer/kernle": 1}}), [1.0])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_decoupled_decay_is_of_kernels_alone(optimizer: str) -> None:
    wanted = small_recipe(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    values = apply(wanted, [0.0])
    assert values[0].tolist() == [pytest.approx(0.95), 1.0]


def muon_step(weights: NDArray[np.float64], gradient: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """One step from zero momentum, with an exact orthogonal matrix; its root mean square is 0.2 x the rate."""
    matrix = gradient.reshape(-1, gradient.shape[-1])
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    update = 0.2 * np.sqrt(max(matrix.shape)) * (left @ right)
    return weights - rate * update.reshape(weights.shape)


def test_muon_updates_the_kernel_of_a_convolution_by_an_orthogonal_matrix() -> None:
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(8, 3), keras.layers.Dense(3)])
    optimizer = optimizers.build(small_recipe(optimizer="muon", learning_rate=0.1, weight_decay=0.0), 10)
    weights = model.trainable_variables
    optimizer.build(weights)
    before = [weight.numpy().astype(np.float64) for weight in weights]
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=weight.shape) for weight in weights]
    optimizer.apply([gradient.astype(np.float32) for gradient in gradients])
    convolution, bias, *rest = zip(weights, before, gradients, strict=True)
    change = convolution[0].numpy() - convolution[1]
    expected = muon_step(convolution[1], convolution[2], 0.1) - convolution[1]
    cosine = (change * expected).sum() / np.linalg.norm(change) / np.linalg.norm(expected)
    assert cosine > 0.97  # five iterations are no exact factorisation
    assert np.linalg.norm(change) == pytest.approx(np.linalg.norm(expected), rel=0.2)
    for weight, start, gradient in (bias, *rest):  # AdamW's first step has the size of the rate
        np.testing.assert_allclose(weight.numpy(), start - 0.1 * np.sign(gradient), atol=1e-4)


def test_lookahead_is_that_of_airbench() -> None:
    wanted = small_recipe(epochs=4, weight_averaging="lookahead", averaging_decay=0.9, batch_size=64)
    model = loop.build_and_compile(wanted, draw_synthetic(192, 1))
    after_step = lookahead.start(model, wanted, 192)
    weight = model.trainable_variables[0]
    start, average = weight.numpy().copy(), weight.numpy().copy()
    for number in range(1, 13):  # four epochs of three steps
        model.optimizer.iterations.assign(number)
        weight.assign(weight.numpy() + 1)
        after_step()
        if number in (5, 10):
            decay = 0.9**5 * (number / 12) ** 3
            average = decay * average + (1 - decay) * (average + 5)
            np.testing.assert_allclose(weight.numpy(), average, rtol=1e-5)
    np.testing.assert_allclose(weight.numpy(), average, rtol=1e-5)
    assert np.all(average > start)


FEATURES: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
    "muon": {"optimizer": "muon", "weight_decay": 0.01},
    "schedule": {"schedule": "cosine", "warmup": 0.3, "initial_rate": 0.1, "final_rate": 0.1},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.01},
    "label smoothing": {"label_smoothing": 0.1},
    "drop last": {"drop_last": True, "batch_size": 100},
    "lookahead": {"weight_averaging": "lookahead", "averaging_decay": 0.9},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_changes_the_weights_and_two_trainings_are_equal(
    pair: list[Run], small: Dataset, tmp_path: Path, feature: str
) -> None:
    wanted = small_recipe(epochs=3, **FEATURES[feature])
    (one,) = train_here([wanted], small, tmp_path / "one")
    (other,) = train_here([wanted], small, tmp_path / "other")
    assert one.metrics.weights_sha256 == other.metrics.weights_sha256
    assert one.metrics.weights_sha256 != pair[1].metrics.weights_sha256
    assert (one.path / "history.jsonl").read_bytes() == (other.path / "history.jsonl").read_bytes()


def test_bfloat16_is_scored_and_saved_in_float32(small: Dataset, tmp_path: Path) -> None:
    (run,) = train_here([small_recipe(epochs=1, precision="bfloat16")], small, tmp_path)
    model = keras.models.load_model(run.path / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert networks.weights_sha256(model) == run.metrics.weights_sha256
    np.testing.assert_array_equal(model.predict_on_batch(small.x_test), run.predictions()[0])


def test_bfloat16_computes_all_from_the_first_kernel_to_before_the_last_in_bfloat16(small: Dataset) -> None:
    model = loop.build_and_compile(small_recipe(precision="bfloat16"), small)
    scale, *others, probabilities = [layer.compute_dtype for layer in model.layers]
    assert (scale, set(others), probabilities) == ("float32", {"bfloat16"}, "float32")
    assert {str(weight.dtype) for weight in model.trainable_variables} == {"float32"}


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_label_smoothing_is_that_of_the_formula(small: Dataset, smoothing: float) -> None:
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    labels = np.eye(10, dtype=np.float32)[small.y_train[:100]]
    targets = labels * (1 - smoothing) + smoothing / 10
    probabilities = model.predict_on_batch(small.x_train[:100])
    expected = -(targets * np.log(probabilities)).sum(axis=1).mean()
    loss, _ = step.compile_step(model, smoothing)(small.x_train[:100], labels)
    assert loss == pytest.approx(expected, rel=1e-5)
