"""How an epoch is trained on each Keras backend."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.data import augmentation
from cifar.data.dataset import Dataset
from cifar.recipes import Recipe
from cifar.training.callback import Callback


class DivergedError(Exception):
    """The loss or the outputs became NaN or infinite; the message says in which epoch."""


EpochTrainer = Callable[[int, Callback], tuple[float, float]]
"""Trains an epoch, counted from 1, and returns loss and accuracy.

Both are means over the images, as measured by the step that saw them. Raises DivergedError.
"""


def epoch_trainer(model: Any, recipe: Recipe, data: Dataset) -> EpochTrainer:
    """Return what trains an epoch on the recipe's backend.

    Args:
        model: the Keras model, compiled, with its optimizer built.
        recipe: what is trained.
        data: of which every training image is used.
    """
    backend = importlib.import_module(f"cifar.training.backends.{recipe.backend}")
    trainer: EpochTrainer = backend.epoch_trainer(model, recipe, data)
    return trainer


def visits(recipe: Recipe, epoch: int, n: int) -> NDArray[np.int64]:
    """Return the indices of the training images that an epoch sees, of n, in its order."""
    return augmentation.order(recipe.seed, epoch, n)[: recipe.images_per_epoch(n)]
