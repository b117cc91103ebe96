"""TensorFlow: batches are augmented on the host, one ahead of the step that trains on them."""

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
from cifar.training import lookahead
from cifar.training.backends import DivergedError, EpochTrainer, visits
from cifar.training.callback import Callback
from cifar.training.step import compile_step

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Images (B, 32, 32, 3) and one-hot targets (B, 10)."""


def epoch_trainer(model: Any, recipe: Recipe, data: Dataset) -> EpochTrainer:
    """See cifar.training.backends.epoch_trainer."""
    train_step = compile_step(model, recipe.label_smoothing)
    n = len(data.x_train)
    after_step = lookahead.start(model, recipe, n)

    def train_epoch(epoch: int, callback: Callback) -> tuple[float, float]:
        loss_sum = 0.0
        correct_sum = 0
        seen = 0
        for images, targets in batches(recipe, data, epoch):
            loss, correct = train_step(images, targets)
            after_step()
            seen += len(images)
            loss_sum += loss * len(images)
            correct_sum += correct
            if not math.isfinite(loss):
                raise DivergedError(f"the loss became {loss} in epoch {epoch}, after {seen} of its images")
            callback.step(epoch, seen, loss_sum / seen, correct_sum / seen)
        assert seen == recipe.images_per_epoch(n)
        return loss_sum / seen, correct_sum / seen

    return train_epoch


def batches(recipe: Recipe, data: Dataset, epoch: int) -> Iterator[Batch]:
    """Yield an epoch's batches; the next one is made while the caller uses one."""
    n = len(data.x_train)
    visited = visits(recipe, epoch, n)
    parameters = augmentation.draw(recipe.policy, recipe.seed, epoch, n)
    augmented = parameters.any()

    def make_batch(start: int) -> Batch:
        indices = visited[start : start + recipe.batch_size]
        images = data.x_train[indices]
        if augmented:
            images = augmentation.apply(images, parameters[indices])
        return images, _one_hot(data.y_train[indices])

    with ThreadPoolExecutor(1) as executor:
        next_batch = executor.submit(make_batch, 0)
        for next_start in range(recipe.batch_size, len(visited) + recipe.batch_size, recipe.batch_size):
            batch = next_batch.result()
            if next_start < len(visited):
                next_batch = executor.submit(make_batch, next_start)
            yield batch


def _one_hot(labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.eye(classification.CLASSES, dtype=np.float32)[labels]
