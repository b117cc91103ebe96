"""The rows of training: steps of every training method, and the time to the first step."""

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cifar import recipes
from cifar.benchmark import jobs
from cifar.benchmark.grid import TRAINING_THREADS, TrainingCase
from cifar.benchmark.inference import is_installed
from cifar.benchmark.session import NotAvailableError, Row, Session
from cifar.benchmark.training_methods import TRAINING_METHODS, TrainingJob
from cifar.benchmark.worker import TIME_LIMIT, run_worker, thread_variables
from cifar.errors import CifarError
from cifar.system.child_process import ChildProcess

FIRST_STEP_REPEATS = 2  # processes that are started for their first step
STEPS = 15  # of training, timed, before it is another method's turn


@dataclass(frozen=True)
class BatchSize:
    """The batch size that a training method is timed at.

    Attributes:
        images: per step.
        tried: images/s of each batch size that was tried, by its number as a text; empty for that of our recipe.
    """

    images: int
    tried: dict[str, float]


class TrainingBenchmark:
    """Runs the workers of all training methods of a network in turn: a disturbance of the machine hits all alike."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._flop: dict[str, int | None] = {}
        self._batch_sizes: dict[TrainingCase, BatchSize] = {}
        self._rounds: dict[TrainingCase, list[Row]] = {}
        self._failures: dict[TrainingCase, CifarError] = {}

    def steps(self, case: TrainingCase) -> tuple[list[float], Row]:
        """Return seconds of each training step of a case, and its row.

        Raises:
            NotAvailableError: what this method needs is not installed.
            CifarError: it failed.
        """
        method = TRAINING_METHODS[case.method]
        if not is_installed(method.package):
            raise NotAvailableError(f"{method.package} is not installed (extra `peers`)")
        if case not in self._rounds and case not in self._failures:
            self._session.measure_peak(TRAINING_THREADS)
            self._run_all(case.network)
        if case in self._failures:
            raise self._failures[case]
        return _steps_row(case, self._batch_sizes[case], self._rounds[case], self._flop[case.network])

    def _run_all(self, network: str) -> None:
        """Start all selected training methods of a network, one by one; then time some steps of each, in turn."""
        self._flop[network] = run_worker(jobs.training_flop, TRAINING_THREADS, network=network)
        cases = []
        for case in self._session.training:
            if case.network == network and is_installed(TRAINING_METHODS[case.method].package):
                cases.append(case)
        shuffle = random.Random(self._session.order_seed)
        with ExitStack() as stack:
            children: dict[TrainingCase, ChildProcess] = {}
            for case in shuffle.sample(cases, len(cases)):
                try:
                    self._batch_sizes[case] = _choose_batch_size(case)
                except CifarError as error:
                    self._failures[case] = error
                    continue
                children[case] = stack.enter_context(_start(case, self._batch_sizes[case]))
                self._receive(case, children[case])
            for _ in range(self._session.grid.rounds - 1):
                for case in shuffle.sample(cases, len(cases)):
                    if case not in self._failures:
                        children[case].resume()
                        self._receive(case, children[case])

    def _receive(self, case: TrainingCase, child: ChildProcess) -> None:
        """Add a worker's next round to its case."""
        try:
            result = child.receive(TIME_LIMIT)
        except CifarError as error:
            self._failures[case] = error
        else:
            self._rounds.setdefault(case, []).append(result)


def _choose_batch_size(case: TrainingCase) -> BatchSize:
    """The fastest of a method's batch sizes, tried in a process of their own; without any, that of our recipe."""
    batch_sizes = TRAINING_METHODS[case.method].batch_sizes
    if not batch_sizes:
        return BatchSize(recipes.recipe(case.network, case.policy, profile="reference").batch_size, {})
    tried = run_worker(jobs.try_batch_sizes, TRAINING_THREADS, job=_job(case), batch_sizes=batch_sizes)
    return BatchSize(int(max(tried, key=tried.__getitem__)), tried)


def _start(case: TrainingCase, batch_size: BatchSize) -> ChildProcess:
    return ChildProcess(jobs.training, _job(case), batch_size.images, variables=thread_variables(TRAINING_THREADS))


def _job(case: TrainingCase) -> TrainingJob:
    return TrainingJob(case.method, case.network, case.policy, TRAINING_THREADS, STEPS)


def _steps_row(
    case: TrainingCase, batch_size: BatchSize, rounds: list[Row], flop: int | None
) -> tuple[list[float], Row]:
    """The seconds of each step in all rounds, and the row."""
    seconds: list[float] = []
    for result in rounds:
        seconds += result["seconds"]
    median, last = float(np.median(seconds)), rounds[-1]
    on_cpu = last["device"] == "cpu"
    name = TRAINING_METHODS[case.method].name
    return seconds, {
        "kind": "training",
        "method": name if on_cpu else f"{name} on the GPU",
        "model": case.network,
        "augment": case.policy,
        "threads": TRAINING_THREADS,
        "dataset": "synthetic",
        "device": last["device"],
        "batch": batch_size.images,
        "tried": batch_size.tried,
        "memory_bytes": last["memory_bytes"],
        "flop_per_image": flop if on_cpu else None,  # the matrix peak is the CPU's
        "images_per_second": last["images"] / median,
        "images_per_second_best": last["images"] / min(seconds),
        "images_per_second_mean": last["images"] / float(np.mean(seconds)),
        "slowest_over_median": max(seconds) / median,
        "rounds": [len(result["seconds"]) for result in rounds],  # steps of each round of one process
    }


def first_step(session: Session, network: str) -> tuple[list[float], Row]:
    """Return seconds from process start to the end of the first training step, a few times, and the row."""
    seconds, import_seconds = [], []
    for _ in range(FIRST_STEP_REPEATS):
        with TemporaryDirectory(dir=session.scratch) as folder:
            result = run_worker(
                jobs.first_step,
                TRAINING_THREADS,
                folder=Path(folder),
                network=network,
                threads=TRAINING_THREADS,
                spawned=time.time(),
            )
        seconds.append(result["seconds"])
        import_seconds.append(result["import_seconds"])
    return seconds, {
        "kind": "first-step",
        "model": network,
        "threads": TRAINING_THREADS,
        "device": "cpu",
        "seconds": float(np.median(seconds)),
        "import_seconds": float(np.median(import_seconds)),
        "repeats": [1] * len(seconds),
    }
