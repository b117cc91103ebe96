"""The rows of training: steps of every training method, and the time to the first step."""

import random
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cifar.benchmark import jobs
from cifar.benchmark.grid import ALL_THREADS, TrainingCase
from cifar.benchmark.inference import is_installed
from cifar.benchmark.session import NotAvailableError, Row, Session
from cifar.benchmark.training_methods import TRAINING_METHODS, TrainingJob
from cifar.benchmark.worker import TIME_LIMIT, run_worker, thread_variables
from cifar.errors import CifarError
from cifar.recipes import TRAINING
from cifar.system.child_process import ChildProcess

FIRST_STEP_REPEATS = 2  # processes that are started for their first step
STEPS = 15  # of training, timed, before it is another method's turn


class TrainingBenchmark:
    """Runs the workers of all training methods of a network in turn: a disturbance of the machine hits all alike."""

    def __init__(self, session: Session) -> None:
        self._session = session
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
            self._session.measure_peak(ALL_THREADS)
            self._run_all(case.network)
        if case in self._failures:
            raise self._failures[case]
        return _steps_row(case, self._rounds[case])

    def _run_all(self, network: str) -> None:
        """Start all selected training methods of a network, one by one; then time some steps of each, in turn."""
        cases = []
        for case in self._session.training:
            if case.network == network and is_installed(TRAINING_METHODS[case.method].package):
                cases.append(case)
        shuffle = random.Random(self._session.order_seed)
        with ExitStack() as stack:
            children: dict[TrainingCase, ChildProcess] = {}
            for case in shuffle.sample(cases, len(cases)):
                children[case] = stack.enter_context(_start(case))
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


def _start(case: TrainingCase) -> ChildProcess:
    batch_sizes = TRAINING_METHODS[case.method].batch_sizes or (TRAINING[case.network].batch_size,)
    job = TrainingJob(case.method, case.network, case.policy, batch_sizes, ALL_THREADS, STEPS)
    return ChildProcess(jobs.training, job, variables=thread_variables(ALL_THREADS))


def _steps_row(case: TrainingCase, rounds: list[Row]) -> tuple[list[float], Row]:
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
        "threads": ALL_THREADS,
        "dataset": "synthetic",
        "device": last["device"],
        "batch": last["batch"],
        "tried": last["tried"],
        "memory_bytes": last["memory_bytes"],
        "flop_per_image": last["flop_per_image"] if on_cpu else None,  # the matrix peak is the CPU's
        "images_per_second": last["images"] / median,
        "images_per_second_best": last["images"] / min(seconds),
        "images_per_second_mean": last["images"] / float(np.mean(seconds)),
        "slowest_over_median": max(seconds) / median,
        "repeats": [len(result["seconds"]) for result in rounds],  # rounds of one process
    }


def first_step(session: Session, network: str) -> tuple[list[float], Row]:
    """Return seconds from process start to the end of the first training step, a few times, and the row."""
    seconds, import_seconds = [], []
    for _ in range(FIRST_STEP_REPEATS):
        with TemporaryDirectory(dir=session.scratch) as folder:
            result = run_worker(jobs.first_step, 2, folder=Path(folder), network=network, spawned=time.time())
        seconds.append(result["seconds"])
        import_seconds.append(result["import_seconds"])
    return seconds, {
        "kind": "first-step",
        "model": network,
        "threads": 2,
        "device": "cpu",
        "seconds": float(np.median(seconds)),
        "import_seconds": float(np.median(import_seconds)),
        "repeats": [1] * len(seconds),
    }
