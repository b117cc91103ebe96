"""How a name becomes a Keras model."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cifar.errors import UsageError, first_line
from cifar.metrics.classification import Predictor
from cifar.networks.catalog import NETWORKS, check_name
from cifar.networks.digests import architecture_sha256


def build_with_fresh_names(name: str) -> Any:
    """Return `build(name)` with Keras's automatic names counted from the start, as if nothing had been built before.

    Names are part of the digests; models built earlier in this process keep working.
    """
    import keras

    keras.backend.clear_session()
    return build(name)


def build(name: str) -> Any:
    """Return a new, uncompiled Keras model: uint8 images (N, 32, 32, 3) in, float32 probabilities (N, 10) out.

    Args:
        name: `first`, `second`, `third`, or `module:function` for a function without arguments that returns a
            Keras model; the module is looked for in the current folder first.

    Raises:
        UsageError: the name is unknown, or what the function returns does not have these shapes.
    """
    if ":" not in check_name(name):
        return _reference(name)
    function = _user_function(name)
    try:
        model = function()
    except Exception as error:  # whatever the user's function raises is the user's to read
        raise UsageError(
            f"--network {name}: the function failed: {type(error).__name__}: {first_line(error)}"
        ) from error
    return _checked(name, model)


def parameters(name: str) -> int:
    """Count the parameters of a network."""
    return int(build(name).count_params())


def predictor(model: Any) -> Predictor:
    """A Keras model as a Predictor."""
    return lambda images: np.asarray(model.predict_on_batch(images))


def _reference(name: str) -> Any:
    """Six 3x3 convolutions in three stages, then a dense head. Every layer is named: names are part of the digest."""
    import keras
    from keras import layers

    stack = [keras.Input((32, 32, 3), dtype="uint8", name="image"), layers.Rescaling(1 / 255, name="scale")]
    for stage, filters in enumerate(NETWORKS[name].filters, start=1):
        stack += [
            layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{stage}a"),
            layers.Conv2D(filters, 3, padding="valid", activation="relu", name=f"conv{stage}b"),
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


def _user_function(name: str) -> Any:
    """Import the function that `module:function` names."""
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises at import is the user's to read
        raise UsageError(f"--network {name}: cannot import '{module_name}': {first_line(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(f"--network {name}: module '{module_name}' has no function '{function_name}'.")
    return function


def _checked(name: str, model: Any) -> Any:
    """Return a user's model if it keeps the contract."""
    import keras

    if not isinstance(model, keras.Model):
        raise UsageError(f"--network {name}: expected a Keras model, the function returned {type(model).__name__}.")
    if not model.built or not getattr(model, "inputs", None):
        raise UsageError(f"--network {name}: the model has no input shape; begin it with keras.Input((32, 32, 3)).")
    for side, found, expected in (
        ("takes", model.input_shape, (None, 32, 32, 3)),
        ("gives", model.output_shape, (None, 10)),
    ):
        if found != expected:
            raise UsageError(f"--network {name}: the model {side} {found}, expected {expected}.")
    try:
        architecture_sha256(model)
    except Exception as error:  # a layer without get_config raises many kinds
        raise UsageError(f"--network {name}: the model cannot be saved: {first_line(error)}") from error
    probe = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)
    try:
        sums = np.asarray(model.predict_on_batch(probe)).sum(axis=1)
    except Exception as error:  # a layer raises what it likes
        raise UsageError(f"--network {name}: the model cannot answer for two images: {first_line(error)}") from error
    if np.isfinite(sums).all() and not np.allclose(sums, 1, atol=1e-3):
        raise UsageError(
            f"--network {name}: expected probabilities that sum to 1 (end with softmax), "
            f"found rows that sum to {sums[0]:.3g}."
        )
    return model
