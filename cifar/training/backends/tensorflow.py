"""TensorFlow: batches made on the host, one ahead of the step that trains on them."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.data import augmentation
from cifar.data.dataset import Dataset
from cifar.metrics import classification
from cifar.recipes import Recipe
from cifar.training import step
from cifar.training.backends import DivergedError, EpochTrainer
from cifar.training.callback import Callback

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]


def epoch_trainer(model: Any, recipe: Recipe, data: Dataset) -> EpochTrainer:
    """See cifar.training.backends.loop."""
    advance = step.compiled(model)

    def epoch(number: int, callback: Callback) -> tuple[float, float]:
        loss_sum = 0.0
        right_sum = seen = 0
        for images, targets in batches(recipe, data, number):
            loss, right = advance(images, targets)
            seen += len(images)
            loss_sum += loss * len(images)
            right_sum += right
            if not math.isfinite(loss):
                raise DivergedError(f"the loss became {loss} in epoch {number}, after {seen} of its images")
            callback.step(number, seen, loss_sum / seen, right_sum / seen)
        assert seen == len(data.x_train)
        return loss_sum / seen, right_sum / seen

    return epoch


def batches(recipe: Recipe, data: Dataset, epoch: int) -> Iterator[Batch]:
    """An epoch's batches, the last partial one included; one batch is made ready while another is trained on.

    Yields:
        uint8 images (B, 32, 32, 3) and one-hot float32 targets (B, 10).
    """
    n = len(data.x_train)
    visits = augmentation.order(recipe.seed, epoch, n)
    parameters = augmentation.draw(recipe.policy, recipe.seed, epoch, n)
    plain = not parameters.any()

    def make(start: int) -> Batch:
        index = visits[start : start + recipe.batch_size]
        images = data.x_train[index]
        return images if plain else augmentation.apply(images, parameters[index]), _one_hot(data.y_train[index])

    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(make, 0)
        for start in range(recipe.batch_size, n + recipe.batch_size, recipe.batch_size):
            batch = following.result()
            if start < n:
                following = ahead.submit(make, start)
            yield batch


def _one_hot(labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.eye(classification.CLASSES, dtype=np.float32)[labels]
