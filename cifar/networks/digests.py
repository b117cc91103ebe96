"""Digests of a network's weights and of its architecture."""

import hashlib
from typing import Any

import numpy as np


def weights_sha256(model: Any) -> str:
    """Return the SHA-256 over path, dtype, shape and bytes of every weight of a Keras model, in the model's order.

    Each path is relative to the model: Keras puts the name of a new model before it, but not that of a loaded one.
    """
    digest = hashlib.sha256()
    prefix = f"{model.name}/"
    for weight in model.weights:
        value = np.ascontiguousarray(weight.numpy())
        path = weight.path.removeprefix(prefix)
        digest.update(f"{path}\0{value.dtype.str}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def architecture_sha256(model: Any) -> str:
    """Return the SHA-256 of an uncompiled Keras model's configuration: of every layer and its settings."""
    return hashlib.sha256(model.to_json(sort_keys=True).encode()).hexdigest()
