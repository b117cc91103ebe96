"""Training throughput of the reference networks, plain and augmented, and of the augmentation alone.

    pytest bench/ --benchmark-only

One round is one training step at the recipe's batch size, its batch made ready beforehand as in `cifar train`.
`extra_info` holds images per second (median step) and the threads; the table at the end sets augmented against plain.
"""

from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cifar import augment, dataset, environment, training
from cifar.dataset import Dataset
from cifar.networks import NETWORKS
from cifar.recipes import POLICIES, Recipe, recipe

WARM_UP, STEPS = 6, 40


@pytest.fixture(scope="session")
def data() -> Dataset:
    environment.configure(threads=2)
    return dataset.draw_synthetic()


def endless(wanted: Recipe, data: Dataset) -> Iterator[training.Batch]:
    """Full batches of one epoch after another."""
    for epoch in count(1):
        for images, targets in training.batches(wanted, data, epoch):
            if len(images) == wanted.batch_size:
                yield images, targets


@pytest.mark.parametrize("policy", ["none", "shift-flip", "shift-flip-rotate"])
@pytest.mark.parametrize("network", NETWORKS)
def test_training(benchmark: BenchmarkFixture, data: Dataset, network: str, policy: str) -> None:
    wanted = recipe(network, policy, profile="reference", dataset="synthetic")
    model = training.prepare(wanted)
    batches = endless(wanted, data)

    def step() -> None:
        model.train_on_batch(*next(batches))

    benchmark.pedantic(step, rounds=STEPS, warmup_rounds=WARM_UP)
    benchmark.extra_info.update(
        kind="training",
        model=network,
        augment=policy,
        batch=wanted.batch_size,
        threads=wanted.threads,
        device="cpu",
        images_per_second=wanted.batch_size / benchmark.stats.stats.median,
    )


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_augmentation(benchmark: BenchmarkFixture, data: Dataset, policy: str) -> None:
    images = data.x_train[:128]
    parameters = augment.draw(POLICIES[policy], 0, 1, len(images))
    changed = benchmark(augment.apply, images, parameters)
    assert not np.array_equal(changed, images)
    benchmark.extra_info.update(
        kind="augmentation",
        augment=policy,
        batch=len(images),
        threads=1,
        images_per_second=len(images) / benchmark.stats.stats.median,
    )
