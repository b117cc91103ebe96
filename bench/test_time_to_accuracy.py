"""How long finished runs trained to reach 94 % test accuracy, by their own records."""

from bench.conftest import MARKS
from cifar.benchmark.time_to_accuracy import time_to_accuracy

pytestmark = MARKS


def test_training_time_to_accuracy(record, finished_run):
    record(lambda: time_to_accuracy(finished_run))
