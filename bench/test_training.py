"""Training steps of our loop and of the ways a user would go otherwise, on the same work; the way to the first."""

from bench.conftest import MARKS
from cifar.benchmark import training

pytestmark = MARKS


def test_training(record, training, training_case):
    record(lambda: training.steps(training_case))


def test_first_step_of_training(record, session, network):
    record(lambda: training.first_step(session, network))
