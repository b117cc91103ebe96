"""The input pipeline alone: augmented images per second of each policy."""

from bench.conftest import MARKS
from cifar.benchmark import training

pytestmark = MARKS


def test_augmentation(record, session, policy):
    record(lambda: training.augmentation(session, policy))
