"""The rows of training, of its input alone, and of what augmentation buys."""

import random
import time
from contextlib import ExitStack
from dataclasses import asdict
from tempfile import TemporaryDirectory

import numpy as np

from cifar.analysis.finished_run import Result
from cifar.analysis.gains import Gain
from cifar.analysis.summary import Group
from cifar.benchmark.grid import ALL_THREADS, TrainingCase
from cifar.benchmark.inference import installed
from cifar.benchmark.processes import Worker, ask
from cifar.benchmark.session import NotAvailableError, Row, Session
from cifar.benchmark.training_methods import TRAINING_METHODS
from cifar.errors import CifarError
from cifar.recipes import TRAINING

FIRST_STEPS = 2  # times that a process is started for its first step
STEPS = 15  # of training, timed, before it is another way's turn
GOAL = 0.75  # test accuracy that a run takes some minutes to reach


class Training:
    """Asks the workers of all ways to train a network, in turn: what disturbs the machine disturbs all alike."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._answers: dict[TrainingCase, list[Row] | CifarError] = {}

    def steps(self, case: TrainingCase) -> tuple[list[float], Row]:
        """Seconds of each training step of a case, and its row.

        Raises:
            NotAvailableError: what this way needs is not installed.
            CifarError: it failed.
        """
        way = TRAINING_METHODS[case.way]
        if not installed(way.package):
            raise NotAvailableError(f"{way.package} is not installed (extra `peers`)")
        if case not in self._answers:
            self._session.measure_peak(ALL_THREADS)
            self._ask_all(case.network)
        answers = self._answers[case]
        if isinstance(answers, CifarError):
            raise answers
        seconds = [second for answer in answers for second in answer["seconds"]]
        median = float(np.median(seconds))
        last = answers[-1]
        return seconds, {
            "kind": "training",
            "way": way.name if last["device"] == "cpu" else f"{way.name} on the GPU",
            "model": case.network,
            "augment": case.policy,
            "threads": ALL_THREADS,
            "dataset": "synthetic",
            **{key: last[key] for key in ("device", "batch", "tried", "memory_bytes")},
            "flop_per_image": last["flop_per_image"] if last["device"] == "cpu" else None,  # the peak is the CPU's
            "images_per_second": last["images"] / median,
            "images_per_second_best": last["images"] / min(seconds),
            "images_per_second_mean": last["images"] / float(np.mean(seconds)),
            "slowest_over_median": max(seconds) / median,
            "repeats": [len(answer["seconds"]) for answer in answers],  # rounds of one process
        }

    def _ask_all(self, network: str) -> None:
        """Let all selected ways to train a network get ready, one by one; then take some steps of each, in turn."""
        cases = [case for case in self._session.training if case.network == network]
        cases = [case for case in cases if installed(TRAINING_METHODS[case.way].package)]
        shuffle = random.Random(self._session.order_seed)
        with ExitStack() as stack:
            workers: dict[TrainingCase, Worker] = {}
            for case in shuffle.sample(cases, len(cases)):
                workers[case] = stack.enter_context(self._worker(case))
                self._take(case, workers[case])
            for _ in range(self._session.grid.rounds - 1):
                for case in shuffle.sample(cases, len(cases)):
                    if not isinstance(self._answers[case], CifarError):
                        workers[case].go_on()
                        self._take(case, workers[case])

    def _worker(self, case: TrainingCase) -> Worker:
        return Worker(
            "training",
            ALL_THREADS,
            way=case.way,
            network=case.network,
            policy=case.policy,
            batches=TRAINING_METHODS[case.way].batches or [TRAINING[case.network].batch_size],
            threads=ALL_THREADS,
            steps=STEPS,
        )

    def _take(self, case: TrainingCase, worker: Worker) -> None:
        """Add a worker's next answer to its case."""
        try:
            answer = worker.answer()
        except CifarError as error:
            self._answers[case] = error
        else:
            answers = self._answers.setdefault(case, [])
            assert isinstance(answers, list)
            answers.append(answer)


def first_step(session: Session, network: str) -> tuple[list[float], Row]:
    """Seconds from process start to the end of the first training step, a few times, and the row."""
    answers = []
    for _ in range(FIRST_STEPS):
        with TemporaryDirectory(dir=session.scratch) as folder:
            answers.append(ask("first_step", 2, folder=folder, network=network, spawned=time.time()))
    return [answer["seconds"] for answer in answers], {
        "kind": "first-step",
        "model": network,
        "threads": 2,
        "device": "cpu",
        "seconds": float(np.median([answer["seconds"] for answer in answers])),
        "import_seconds": float(np.median([answer["import_seconds"] for answer in answers])),
        "repeats": [1] * len(answers),
    }


def augmentation(session: Session, policy: str) -> tuple[list[float], Row]:
    """Seconds for a batch of 128 images on one thread, by several processes, and the row."""
    processes = session.grid.processes
    budget = session.grid.budget / 2
    answers = [ask("augmentation", 1, policy=policy, budget=budget, processes=processes) for _ in range(processes)]
    seconds = [second for answer in answers for second in answer["seconds"]]
    return seconds, {
        "kind": "augmentation",
        "augment": policy,
        "threads": 1,
        "device": "cpu",
        "batch": answers[0]["batch"],
        "images_per_second": answers[0]["batch"] / float(np.median(seconds)),
        "cores_busy": max(answer["cores_busy"] for answer in answers),
        "repeats": [len(answer["seconds"]) for answer in answers],
    }


def gain(group: Group, gain: Gain) -> tuple[list[float], Row]:
    """Seconds that each augmented run was trained for, and what it bought."""
    augmented = [result for result in group.results if result.augment == gain.augment and result.seed in gain.seeds]
    plain = [result for result in group.results if result.augment == "none" and result.seed in gain.seeds]
    return [result.metrics.train_seconds for result in augmented], {
        "kind": "gain",
        "model": gain.network,
        **{key: value for key, value in asdict(gain).items() if key != "network"},
        **augmented[0].metrics.model_dump(include={"dataset", "official", "data_sha256", "n_test", "threads"}),
        "minutes_to_75_plain": _minutes(plain),
        "minutes_to_75_augmented": _minutes(augmented),
    }


def _minutes(results: list[Result]) -> float | None:
    """Minutes of training until an epoch tests at 75 %, mean over runs; None if one never does."""
    found = [_minutes_of(result) for result in results]
    return None if None in found else float(np.mean(found))


def _minutes_of(result: Result) -> float | None:
    spent = 0.0
    for epoch, timing in zip(result.history, result.run.timing, strict=True):
        spent += timing.train_seconds
        if epoch.test_accuracy >= GOAL:
            return spent / 60
    return None
