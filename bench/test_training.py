"""Training steps of `cifar train` and of other training methods on the same work; the time to the first step."""

from bench.conftest import MARKS
from cifar.benchmark.training import first_step

pytestmark = MARKS


def test_training(record, training, training_case):
    record(lambda: training.steps(training_case))


def test_first_step_of_training(record, session, network):
    record(lambda: first_step(session, network))
