"""The timing of a training method's steps, in a process of its own."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cifar.benchmark.training_methods import JAX, TRAINING_METHODS
from cifar.benchmark.workload import Precision, Tick, Workload
from cifar.data import dataset
from cifar.recipes import POLICIES
from cifar.system import environment, hardware

N_IMAGES = 50_000  # as many as CIFAR-10 has: synthetic pictures, repeated
WARM_UP_STEPS = 12  # before every measurement: more than Keras's generators prefetch
TRIAL_STEPS = 8  # for which a batch size is tried
LEAST_STEPS = 3  # of warm-up, and of a measurement, however long they take


class _EnoughStepsError(Exception):
    """Ends a trial of a batch size."""


class Stopwatch:
    """A Tick that lets some steps warm up, hands over the seconds of the next ones, and begins again.

    Args:
        batch_size: images of a tick that names no other number.
        steps: that are timed.
        limit: seconds of warm-up, and of timed steps, after which fewer must do.
        report: is given the seconds of the timed steps.
        ready: is called after the first step, before the warm-up.

    Attributes:
        images: of a tick.
    """

    def __init__(
        self,
        batch_size: int,
        steps: int,
        limit: float,
        report: Callable[[list[float]], None],
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.images = batch_size
        self._batch_size, self._steps, self._limit, self._report = batch_size, steps, limit, report
        self._ready: Callable[[], None] | None = ready
        self._times: list[float] = []
        self._warm = False

    def __call__(self, images: int | None = None) -> None:
        """Note the time."""
        if self._ready:
            self._ready()
            self._ready = None
        self.images = images or self._batch_size
        self._times.append(time.perf_counter())
        if not self._warm:
            if self._is_enough(WARM_UP_STEPS):
                self._warm = True
                self._times = self._times[-1:]
        elif self._is_enough(self._steps):
            self._report(np.diff(self._times).tolist())
            self._times.clear()
            self._warm = False

    def _is_enough(self, steps: int) -> bool:
        """Whether so many steps lie between the noted times, or fewer that took long enough."""
        n = len(self._times) - 1
        return n >= steps or (n >= LEAST_STEPS and self._times[-1] - self._times[0] > self._limit)


@dataclass(frozen=True)
class TrainingJob:
    """What a worker times.

    Attributes:
        method: a key of TRAINING_METHODS.
        network, policy: by name.
        precision: of the operations.
        threads: of the arithmetic.
        steps: timed in a round.
        limit: seconds of a round's warm-up, and of its timed steps, after which fewer must do.
    """

    method: str
    network: str
    policy: str
    precision: Precision
    threads: int
    steps: int
    limit: float


def try_batch_sizes(job: TrainingJob, batch_sizes: Sequence[int]) -> dict[int, float]:
    """Return the images/s of a few steps at each batch size."""
    train = _training_function(job)
    speeds = {}
    for batch_size in batch_sizes:
        speeds[batch_size] = _trial_speed(train, batch_size, job.limit)
    return speeds


def measure(job: TrainingJob, batch_size: int, exchange: Callable[[Any], None]) -> None:
    """Time a method's training steps at one batch size, in rounds for as long as they are wanted.

    Nothing but the method is loaded or built in this process, whose peak memory is a column.

    Args:
        job: what is timed.
        batch_size: images per step.
        exchange: is called after the first step with an empty dict, then after each round with a dict of
            `memory_bytes`, the peak of the process so far; the `seconds` of the round's ticks and the `images` of
            each; the `device`. Training goes on when it returns.
    """

    def report(seconds: list[float]) -> None:
        memory = hardware.peak_memory()
        device = "gpu" if job.method == JAX and hardware.gpu() else "cpu"
        exchange({"memory_bytes": memory, "seconds": seconds, "images": stopwatch.images, "device": device})

    stopwatch = Stopwatch(batch_size, job.steps, job.limit, report, ready=lambda: exchange({}))
    _training_function(job)(batch_size, stopwatch)


def _training_function(job: TrainingJob) -> Callable[[int, Tick], None]:
    """Return a function that trains at a batch size, until its tick raises."""
    if job.method != JAX:
        os.environ.update(environment.BACKENDS["tensorflow"].settings)
    drawn = dataset.draw_synthetic()
    images = np.resize(drawn.x_train, (N_IMAGES, *drawn.x_train.shape[1:]))
    labels = np.resize(drawn.y_train, N_IMAGES)

    def train(batch_size: int, tick: Tick) -> None:
        work = Workload(job.network, POLICIES[job.policy], job.precision, batch_size, job.threads, images, labels)
        TRAINING_METHODS[job.method].run(work, tick)

    return train


def _trial_speed(train: Callable[[int, Tick], None], batch_size: int, limit: float) -> float:
    """Images/s of a few steps at a batch size."""
    samples: list[float] = []

    def stop(seconds: list[float]) -> None:
        samples.extend(seconds)
        raise _EnoughStepsError

    with contextlib.suppress(_EnoughStepsError):
        train(batch_size, Stopwatch(batch_size, TRIAL_STEPS, limit, stop))
    return batch_size / float(np.median(samples))
