"""A peer made up for tests, and jobs that measure it in place of PyTorch in a child process."""

import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from cifar.benchmark import jobs
from cifar.benchmark.training_methods import TRAINING_METHODS
from cifar.benchmark.workload import Tick, Workload

BALLAST = 600 << 20  # bytes that the slower batch size takes
real_training, real_trial = jobs.training, jobs.try_batch_sizes


def train(work: Workload, tick: Tick) -> None:
    """Steps of a millisecond at batch 128; slower ones, in far more memory, at batch 256."""
    ballast = np.ones(BALLAST if work.batch_size == 256 else 1, np.uint8)
    while len(ballast):
        time.sleep(0.001 if work.batch_size == 128 else 0.01)
        tick()


def training(*arguments: Any) -> None:
    """Time the peer; fail where Keras was loaded before a round is reported."""
    TRAINING_METHODS["pytorch"] = replace(TRAINING_METHODS["pytorch"], run=train)

    def exchange_without_keras(message: Any) -> None:
        assert not {"keras", "tensorflow"} & set(sys.modules), "Keras is loaded in a PyTorch process"
        real_exchange(message)

    real_exchange, jobs.exchange = jobs.exchange, exchange_without_keras
    real_training(*arguments)


def try_batch_sizes(**arguments: Any) -> Any:
    """Try the peer's batch sizes."""
    TRAINING_METHODS["pytorch"] = replace(TRAINING_METHODS["pytorch"], run=train)
    return real_trial(**arguments)
