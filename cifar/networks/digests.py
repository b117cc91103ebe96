"""Digests of a network's weights and of its architecture."""

import hashlib
from typing import Any

import numpy as np


def weights_sha256(model: Any) -> str:
    """SHA-256 over path, dtype, shape and bytes of every weight of a Keras model, in the model's order.

    The path is the one inside the model: Keras puts the model's own name before it, and not after loading.
    """
    digest, prefix = hashlib.sha256(), f"{model.name}/"
    for weight in model.weights:
        value = np.ascontiguousarray(weight.numpy())
        digest.update(f"{weight.path.removeprefix(prefix)}\0{value.dtype.str}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def architecture_sha256(model: Any) -> str:
    """SHA-256 of an uncompiled Keras model's configuration; two models that differ in a layer differ in it."""
    return hashlib.sha256(model.to_json(sort_keys=True).encode()).hexdigest()
