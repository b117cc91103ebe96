"""The check `images`: augmented images are the same in any batch size, order and thread, and one by one."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cifar.data import augmentation
from cifar.data.dataset import Dataset
from cifar.runs.run import Run
from cifar.training.backends import jax, jax_augmentation
from cifar.training.backends.tensorflow import batches
from cifar.verify.check_result import CheckOptions, CheckResult

Images = NDArray[np.uint8]
Augment = Callable[[NDArray[np.int64]], Images]
"""Indices (N,) of training images in, the augmented images (N, 32, 32, 3) out."""

IMAGES = 512  # the first of the run's training images
EPOCHS = 2
BATCH_SIZES = (7, 64, 128)
THREADS = 4
PARTS = 16  # the images are split into, for the threads


def check(run: Run, data: Dataset, options: CheckOptions) -> CheckResult:  # noqa: ARG001 - the signature of all checks
    """Augment the first images of a run's first epochs in several batch sizes and orders, and compare the bits."""
    training_images = len(data.head(run.recipe.train_images).x_train)
    subset = data.head(min(IMAGES, training_images))
    digest = hashlib.sha256()
    for epoch in range(1, EPOCHS + 1):
        expected = _augment_one_by_one(run, subset, epoch)
        digest.update(expected.data)
        for description, images in _augment_in_other_ways(run, subset, epoch).items():
            if not np.array_equal(images, expected):
                first_different = int((images != expected).any(axis=(1, 2, 3)).argmax())
                return CheckResult(
                    "different",
                    f"epoch {epoch}, image {first_different}: augmented {description}, it differs from the one "
                    "augmented alone",
                )
    batch_sizes = ", ".join(map(str, BATCH_SIZES))
    message = (
        f"{len(subset.x_train)} images of {EPOCHS} epochs under {run.recipe.policy.name} have the same bits one by "
        f"one, in batches of {batch_sizes}, in another order, and by {THREADS} threads"
    )
    return CheckResult("equal", message, figures={"images_sha256": digest.hexdigest()})


def _augment_one_by_one(run: Run, data: Dataset, epoch: int) -> Images:
    augment = _augment_function(run, data, epoch)
    return np.concatenate([augment(np.array([index])) for index in _all_indices(data)])


def _augment_function(run: Run, data: Dataset, epoch: int) -> Augment:
    """Return the augmentation of an epoch, with the arithmetic of the run's backend."""
    parameters = augmentation.draw(run.recipe.policy, run.recipe.seed, epoch, len(data.x_train))
    apply = augmentation.apply
    if run.recipe.backend == "jax":
        apply = jax_augmentation.augment

    def augment(indices: NDArray[np.int64]) -> Images:
        return apply(data.x_train[indices], parameters[indices])

    return augment


def _augment_in_other_ways(run: Run, data: Dataset, epoch: int) -> dict[str, Images]:
    """Return the images of an epoch, in the order of the data set, by a description of how they were augmented."""
    images = {}
    visits = augmentation.order(run.recipe.seed, epoch, len(data.x_train))
    for size in BATCH_SIZES:
        images[f"in batches of {size}"] = _restore_order(_augment_in_batches(run, data, epoch, size), visits)
    augment = _augment_function(run, data, epoch)
    shuffled = np.random.default_rng().permutation(len(data.x_train))
    images["in another order"] = _restore_order(augment(shuffled), shuffled)
    with ThreadPoolExecutor(THREADS) as threads:
        parts = threads.map(augment, np.array_split(_all_indices(data), PARTS))
        images[f"by {THREADS} threads"] = np.concatenate(list(parts))
    return images


def _augment_in_batches(run: Run, data: Dataset, epoch: int, batch_size: int) -> Images:
    """Return an epoch's images in the order in which training visits them."""
    if run.recipe.backend == "tensorflow":
        recipe = run.recipe.model_copy(update={"batch_size": batch_size})
        return np.concatenate([images for images, _ in batches(recipe, data, epoch)])
    augment = _augment_function(run, data, epoch)
    visits = augmentation.order(run.recipe.seed, epoch, len(data.x_train))
    blocks = jax.split_into_blocks(visits, batch_size, max_steps=1)
    return np.concatenate([augment(block[0]) for block in blocks])


def _all_indices(data: Dataset) -> NDArray[np.int64]:
    return np.arange(len(data.x_train))


def _restore_order(images: Images, order: NDArray[np.int64]) -> Images:
    """Return images that are in some order in the order of the data set."""
    restored = np.empty_like(images)
    restored[order] = images
    return restored
