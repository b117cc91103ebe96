"""How an epoch is trained on each Keras backend."""

import importlib
from collections.abc import Callable
from typing import Any

from cifar.data.dataset import Dataset
from cifar.recipes import Recipe
from cifar.training.callback import Callback


class DivergedError(Exception):
    """The loss is no longer a number."""


EpochTrainer = Callable[[int, Callback], tuple[float, float]]
"""Trains an epoch, counted from 1: every image once, the last partial batch included; loss and accuracy out.

Both are running means over the images, as their step saw them. Raises DivergedError.
"""


def epoch_trainer(model: Any, recipe: Recipe, data: Dataset) -> EpochTrainer:
    """The loop of the recipe's backend.

    Args:
        model: compiled, its optimizer built.
        recipe: what is trained.
        data: what it is trained on, no more.
    """
    made: EpochTrainer = importlib.import_module(f"cifar.training.backends.{recipe.backend}").epoch_trainer(
        model, recipe, data
    )
    return made
