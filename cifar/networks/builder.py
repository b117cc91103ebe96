"""Building a network from its name, and the contract that a user's own network must keep."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cifar.errors import UsageError, first_line
from cifar.metrics.classification import Predictor
from cifar.networks.catalog import NETWORKS, check_name
from cifar.networks.digests import architecture_sha256
from cifar.system import environment

INPUT_SHAPE = (None, 32, 32, 3)
OUTPUT_SHAPE = (None, 10)


def build_with_fresh_names(name: str) -> Any:
    """Return `build(name)` with Keras's automatic layer names numbered from the start.

    Layer names are part of the digests. Models built earlier in this process keep working.
    """
    import keras

    keras.backend.clear_session()
    return build(name)


def build(name: str) -> Any:
    """Return a new, uncompiled Keras model: uint8 images (N, 32, 32, 3) in, float32 probabilities (N, 10) out.

    Args:
        name: of NETWORKS, or `module:function` for a function without arguments that returns a Keras model. The
            module is searched for in the current folder first.

    Raises:
        UsageError: the name is unknown, or the function's result does not keep this contract.
    """
    check_name(name)
    environment.set_keras_defaults()
    if ":" not in name:
        return _build_reference(name)
    function = _import_function(name)
    try:
        model = function()
    except Exception as error:  # a user's function may raise anything
        raise UsageError(
            f"--network {name}: the function failed: {type(error).__name__}: {first_line(error)}"
        ) from error
    _check_shapes(name, model)
    _check_configuration(name, model)
    _check_probabilities(name, model)
    return model


def count_parameters(name: str) -> int:
    """Return the number of parameters of a network, given its name."""
    return int(build(name).count_params())


def predictor(model: Any) -> Predictor:
    """Return a Keras model as a Predictor."""
    return lambda images: np.asarray(model.predict_on_batch(images))


def _build_reference(name: str) -> Any:
    network = NETWORKS[name]
    module = importlib.import_module(f"cifar.networks.{network.module}")
    return module.build(name, network.filters)


def _import_function(name: str) -> Any:
    """Import the function that `module:function` names."""
    module_name, _, function_name = name.partition(":")
    current_folder = str(Path.cwd())
    if current_folder not in sys.path:
        sys.path.insert(0, current_folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise UsageError(f"--network {name}: cannot import '{module_name}': {first_line(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(f"--network {name}: module '{module_name}' has no function '{function_name}'.")
    return function


def _check_shapes(name: str, model: Any) -> None:
    """Raise UsageError unless the object is a Keras model with the contract's input and output shapes."""
    import keras

    if not isinstance(model, keras.Model):
        raise UsageError(f"--network {name}: expected a Keras model, the function returned {type(model).__name__}.")
    if not model.built or not getattr(model, "inputs", None):
        raise UsageError(f"--network {name}: the model has no input shape; begin it with keras.Input((32, 32, 3)).")
    if model.input_shape != INPUT_SHAPE:
        raise UsageError(f"--network {name}: the model takes {model.input_shape}, expected {INPUT_SHAPE}.")
    if model.output_shape != OUTPUT_SHAPE:
        raise UsageError(f"--network {name}: the model returns {model.output_shape}, expected {OUTPUT_SHAPE}.")


def _check_configuration(name: str, model: Any) -> None:
    """Raise UsageError unless the model's configuration can be written as JSON."""
    try:
        architecture_sha256(model)
    except Exception as error:  # a layer without get_config raises many kinds
        raise UsageError(f"--network {name}: the model cannot be saved: {first_line(error)}") from error


def _check_probabilities(name: str, model: Any) -> None:
    """Raise UsageError unless the model's outputs for two images sum to 1; outputs that are not finite pass."""
    images = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)
    try:
        sums = np.asarray(model.predict_on_batch(images)).sum(axis=1)
    except Exception as error:  # a layer may raise anything
        raise UsageError(f"--network {name}: the model cannot predict two images: {first_line(error)}") from error
    if np.isfinite(sums).all() and not np.allclose(sums, 1, atol=1e-3):
        raise UsageError(
            f"--network {name}: expected probabilities that sum to 1 (end with softmax), "
            f"found rows that sum to {sums[0]:.3g}."
        )
