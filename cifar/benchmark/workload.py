"""What a training method trains in the benchmark, and what it calls after every step."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar.data.dataset import Dataset
from cifar.recipes import PUBLISHED, RECIPES, Policy, Recipe, read, recipe

Precision = Literal["float32", "bfloat16"]


class Tick(Protocol):
    """Is called after every step; or after some of them, with the number of their images."""

    def __call__(self, images: int | None = None) -> None:
        """Note the time."""


@dataclass(frozen=True)
class Workload:
    """What is trained.

    Attributes:
        network: by name.
        policy: the augmentation.
        precision: of the operations.
        batch_size: images per step.
        threads: of the arithmetic.
        images, labels: uint8, (50000, 32, 32, 3) and (50000,).
    """

    network: str
    policy: Policy
    precision: Precision
    batch_size: int
    threads: int
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    @property
    def targets(self) -> NDArray[np.float32]:
        """The labels one-hot, (50000, 10)."""
        return np.eye(10, dtype=np.float32)[self.labels]

    @property
    def recipe(self) -> Recipe:
        """The recipe of `cifar train` for this workload: the network's own, or the published one."""
        return recipe(
            self.network,
            self.policy.name,
            file=read(self.network if self.network in RECIPES else PUBLISHED),
            profile="reference",
            fields={"batch_size": self.batch_size, "precision": self.precision},
            dataset="synthetic",
            threads=self.threads,
        )

    def whole_batches(self) -> Dataset:
        """Return as many images as fill whole batches, as a data set for `cifar train`."""
        n = len(self.images) // self.batch_size * self.batch_size
        images, labels = self.images[:n], self.labels[:n]
        return Dataset("synthetic", None, (), images, labels, images[:1], labels[:1])
