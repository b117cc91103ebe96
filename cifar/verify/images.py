"""Augmented images are the same whatever the order of work: batch sizes, orders, threads, one by one."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cifar.data import augmentation
from cifar.data.dataset import Dataset
from cifar.runs.run import Run
from cifar.training.backends import jax as on_jax
from cifar.training.backends.tensorflow import batches
from cifar.verify.result import CheckOptions, CheckResult

Maker = Callable[[NDArray[np.int64]], NDArray[np.uint8]]

IMAGES = 512  # the first of the run's training images
EPOCHS = 2
BATCH_SIZES = (7, 64, 128)
THREADS = 4


def check(run: Run, data: Dataset, options: CheckOptions) -> CheckResult:  # noqa: ARG001 - every check is options alike
    """Make the first images of a run's first epochs in several ways and compare them bit by bit."""
    few = data.head(min(IMAGES, len(data.head(run.recipe.train_images).x_train)))
    digest = hashlib.sha256()
    for epoch in range(1, EPOCHS + 1):
        alone = _one_by_one(run, few, epoch)
        digest.update(alone.data)
        for way, images in _ways(run, few, epoch).items():
            if not np.array_equal(images, alone):
                wrong = int((images != alone).any(axis=(1, 2, 3)).argmax())
                return CheckResult("different", f"epoch {epoch}, image {wrong}: {way}, it is not what it is alone")
    batches = ", ".join(map(str, BATCH_SIZES))
    words = (
        f"{len(few.x_train)} images of {EPOCHS} epochs under {run.recipe.policy.name} have the same bits one by one, "
        f"in batches of {batches}, in another order, and by {THREADS} threads"
    )
    return CheckResult("equal", words, figures={"images_sha256": digest.hexdigest()})


def _one_by_one(run: Run, data: Dataset, epoch: int) -> NDArray[np.uint8]:
    some = _maker(run, data, epoch)
    return np.concatenate([some(np.array([i])) for i in _all(data)])


def _maker(run: Run, data: Dataset, epoch: int) -> Maker:
    """What makes some images of an epoch, by index, with the arithmetic of the run's backend."""
    apply = on_jax.augmented if run.recipe.backend == "jax" else augmentation.apply
    parameters = augmentation.draw(run.recipe.policy, run.recipe.seed, epoch, len(data.x_train))
    return lambda index: apply(data.x_train[index], parameters[index])


def _in_batches(run: Run, data: Dataset, epoch: int, size: int) -> NDArray[np.uint8]:
    """An epoch's images in the order in which training visits them."""
    if run.recipe.backend == "tensorflow":
        recipe = run.recipe.model_copy(update={"batch_size": size})
        return np.concatenate([images for images, _ in batches(recipe, data, epoch)])
    visits = augmentation.order(run.recipe.seed, epoch, len(data.x_train))
    some = _maker(run, data, epoch)
    return np.concatenate([some(block[0]) for block in on_jax.blocks(visits, size, most=1)])


def _ways(run: Run, data: Dataset, epoch: int) -> dict[str, NDArray[np.uint8]]:
    """The epoch's images, back in the data set's order, by the way in which they were made."""
    some = _maker(run, data, epoch)
    visits = augmentation.order(run.recipe.seed, epoch, len(data.x_train))
    ways = {f"in batches of {size}": _back(_in_batches(run, data, epoch, size), visits) for size in BATCH_SIZES}
    shuffled = np.random.default_rng().permutation(len(data.x_train))
    ways["in another order"] = _back(some(shuffled), shuffled)
    with ThreadPoolExecutor(THREADS) as threads:
        ways[f"by {THREADS} threads"] = np.concatenate(list(threads.map(some, np.array_split(_all(data), 16))))
    return ways


def _all(data: Dataset) -> NDArray[np.int64]:
    return np.arange(len(data.x_train))


def _back(images: NDArray[np.uint8], order: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images that were made in some order, in the data set's."""
    restored = np.empty_like(images)
    restored[order] = images
    return restored
