"""The rows of training: steps of every training method, and the time to the first step."""

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cifar import recipes
from cifar.benchmark import jobs
from cifar.benchmark.grid import TRAINING_THREADS, TrainingCase
from cifar.benchmark.session import NotAvailableError, Row, Session
from cifar.benchmark.training_job import TrainingJob
from cifar.benchmark.training_methods import TRAINING_METHODS
from cifar.benchmark.worker import TIME_LIMIT, run_worker, thread_variables
from cifar.errors import CifarError
from cifar.inference.runtimes.requirements import is_installed
from cifar.system import environment
from cifar.system.child_process import ChildProcess

FIRST_STEP_REPEATS = 2  # processes that are started for their first step, at most
STEPS = 15  # of training, timed, before it is another method's turn
LEAST_ROUNDS = 2
STARTED_AT_ONCE = 2  # workers that import their framework and build their network side by side


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
            NotAvailableError: what it needs is not installed, or the processor has no units for its precision.
            CifarError: it failed.
        """
        self._require_available(case)
        if case not in self._rounds and case not in self._failures:
            self._count_and_measure_peaks()
            self._run_all(case.network, case.precision)
        if case in self._failures:
            raise self._failures[case]
        return _steps_row(case, self._batch_sizes[case], self._rounds[case], self._flop[case.network])

    def _require_available(self, case: TrainingCase) -> None:
        package = TRAINING_METHODS[case.method].package
        if not is_installed(package):
            raise NotAvailableError(f"{package} is not installed (extra `peers`)")
        if case.precision == "bfloat16" and not (environment.has_bfloat16_units() or self._session.grid.emulated):
            raise NotAvailableError("this processor has no units for bfloat16; --full measures it without them")

    def _count_and_measure_peaks(self) -> None:
        """Learn what shares of the matrix peak are computed from, for all selected cases at once."""
        if self._flop:
            return
        networks = sorted({case.network for case in self._session.training})
        self._flop = run_worker(jobs.training_flop, TRAINING_THREADS, names=networks)
        precisions = {case.precision for case in self._session.training}
        if not environment.has_bfloat16_units():
            precisions.discard("bfloat16")  # a matrix product would take minutes
        self._session.measure_peak(TRAINING_THREADS, sorted(precisions))

    def _run_all(self, network: str, precision: str) -> None:
        """Start all selected training methods of a network in a precision; then time some steps of each, in turn."""
        cases = []
        for case in self._session.training:
            installed = is_installed(TRAINING_METHODS[case.method].package)
            if (case.network, case.precision) == (network, precision) and installed:
                cases.append(case)
        shuffle = random.Random(self._session.order_seed)
        with ExitStack() as stack:
            children = self._start_all(shuffle.sample(cases, len(cases)), stack)
            for number in range(self._session.grid.rounds):
                if number >= LEAST_ROUNDS and not self._session.has_time:
                    break
                for case in shuffle.sample(cases, len(cases)):
                    if case not in self._failures:
                        children[case].resume()
                        self._receive_round(case, children[case])

    def _start_all(self, cases: Sequence[TrainingCase], stack: ExitStack) -> dict[TrainingCase, ChildProcess]:
        """Start the workers of some cases, a few side by side; each waits after its first training step."""
        children: dict[TrainingCase, ChildProcess] = {}
        remaining = iter(cases)
        while group := list(islice(remaining, STARTED_AT_ONCE)):
            for case in group:
                try:
                    self._batch_sizes[case] = self._choose_batch_size(case)
                except CifarError as error:
                    self._failures[case] = error
                else:
                    children[case] = stack.enter_context(self._start(case))
            for case in group:
                if case in self._failures:
                    continue
                try:
                    children[case].receive(TIME_LIMIT)
                except CifarError as error:
                    self._failures[case] = error
        return children

    def _start(self, case: TrainingCase) -> ChildProcess:
        batch_size, variables = self._batch_sizes[case], thread_variables(TRAINING_THREADS)
        return ChildProcess(jobs.training, self._job(case), batch_size.images, variables=variables)

    def _receive_round(self, case: TrainingCase, child: ChildProcess) -> None:
        """Add a worker's next round to its case."""
        try:
            result = child.receive(TIME_LIMIT)
        except CifarError as error:
            self._failures[case] = error
        else:
            self._rounds.setdefault(case, []).append(result)

    def _choose_batch_size(self, case: TrainingCase) -> BatchSize:
        """The case's own, or that of our recipe; of a peer the fastest of several, if they are to be tried."""
        batch_sizes = TRAINING_METHODS[case.method].batch_sizes
        if case.batch_size:
            return BatchSize(case.batch_size, {})
        if not batch_sizes or not self._session.grid.try_batch_sizes:
            return BatchSize(recipes.recipe(case.network, case.policy, profile="reference").batch_size, {})
        tried = run_worker(jobs.try_batch_sizes, TRAINING_THREADS, job=self._job(case), batch_sizes=batch_sizes)
        return BatchSize(int(max(tried, key=tried.__getitem__)), tried)

    def _job(self, case: TrainingCase) -> TrainingJob:
        return TrainingJob(
            method=case.method,
            network=case.network,
            policy=case.policy,
            precision=case.precision,
            threads=TRAINING_THREADS,
            steps=STEPS,
            limit=self._session.grid.round_seconds,
        )


def _steps_row(
    case: TrainingCase, batch_size: BatchSize, rounds: list[Row], flop: int | None
) -> tuple[list[float], Row]:
    """The seconds of each step in all rounds, and the row."""
    seconds: list[float] = []
    speeds = []  # of each round
    for result in rounds:
        seconds += result["seconds"]
        speeds.append(result["images"] / float(np.median(result["seconds"])))
    median, last = float(np.median(seconds)), rounds[-1]
    on_cpu = last["device"] == "cpu"
    name = TRAINING_METHODS[case.method].name
    return seconds, {
        "kind": "training",
        "method": name if on_cpu else f"{name} on the GPU",
        "model": case.network,
        "augment": case.policy,
        "precision": case.precision,
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
        "images_per_second_rounds": speeds,
        "slowest_over_median": max(seconds) / median,
        "rounds": [len(result["seconds"]) for result in rounds],  # steps of each round of one process
    }


def first_step(session: Session, network: str) -> tuple[list[float], Row]:
    """Return seconds from process start to the end of the first training step, a few times, and the row."""
    seconds: list[float] = []
    import_seconds: list[float] = []
    while not seconds or (len(seconds) < FIRST_STEP_REPEATS and session.has_time):
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
