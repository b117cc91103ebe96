"""The augmentation gain of finished runs, and how long they trained to reach 75 %."""

from bench.conftest import MARKS
from cifar.benchmark.gain import gain_row

pytestmark = MARKS


def test_gain(record, group_and_gain):
    record(lambda: gain_row(*group_and_gain))
