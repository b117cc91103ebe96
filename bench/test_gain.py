"""What augmentation bought in finished runs, and how long they took to get there."""

from bench.conftest import MARKS
from cifar.benchmark import training

pytestmark = MARKS


def test_gain(record, gained):
    record(lambda: training.gain(*gained))
