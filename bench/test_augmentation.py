"""Augmentation alone: augmented images per second of each policy."""

from bench.conftest import MARKS
from cifar.benchmark.augmentation_speed import augmentation_speed

pytestmark = MARKS


def test_augmentation(record, session, policy):
    record(lambda: augmentation_speed(session, policy))
