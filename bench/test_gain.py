"""What augmentation bought in finished runs, and how long they took to get there."""

from bench import throughput
from bench.conftest import MARKS

pytestmark = MARKS


def test_gain(record, gained):
    record(lambda: throughput.gain(*gained))
