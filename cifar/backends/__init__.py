"""How an epoch is trained on each Keras backend."""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

from cifar.dataset import Dataset
from cifar.recipes import Recipe
from cifar.records import Epoch, Timing


class Watch(Protocol):
    """Who is told how a run goes on."""

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """After every step or some of them: the epoch, how many images of it are done, its running means."""

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """After every epoch, once its checkpoint is on disk."""


class DivergedError(Exception):
    """The loss is no longer a number."""


Loop = Callable[[int, Watch], tuple[float, float]]
"""Trains an epoch, counted from 1: every image once, the last partial batch included; loss and accuracy out.

Both are running means over the images, as their step saw them. Raises DivergedError.
"""


def loop(model: Any, recipe: Recipe, data: Dataset) -> Loop:
    """The loop of the recipe's backend.

    Args:
        model: compiled, its optimizer built.
        recipe: what is trained.
        data: what it is trained on, no more.
    """
    made: Loop = importlib.import_module(f"cifar.backends.{recipe.backend}").loop(model, recipe, data)
    return made
