"""The input pipeline alone: augmented images per second of each policy."""

from bench import throughput
from bench.conftest import MARKS

pytestmark = MARKS


def test_augmentation(record, session, policy):
    record(lambda: throughput.augmentation(session, policy))
