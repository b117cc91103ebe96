"""Training steps of our loop, and of the ways a user would go otherwise, on the same work."""

from bench.conftest import MARKS

pytestmark = MARKS


def test_training(record, training, training_case):
    record(lambda: training.steps(training_case))
