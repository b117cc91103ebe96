"""The rows of augmentation: what a policy costs, and what it gained in finished runs."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.gains import Gain
from cifar.analysis.groups import Group
from cifar.benchmark import worker
from cifar.benchmark.session import Row, Session
from cifar.benchmark.worker_process import run_worker

GOAL = 0.75  # test accuracy that a run takes some minutes to reach


def augmentation_speed(session: Session, policy: str) -> tuple[list[float], Row]:
    """Return seconds for a batch of 128 images on one thread, by several processes, and the row."""
    processes = session.grid.processes
    budget = session.grid.budget / 2
    seconds: list[float] = []
    repeats, cores_busy = [], []
    for _ in range(processes):
        result = run_worker(worker.augmentation, 1, policy=policy, budget=budget, processes=processes)
        seconds += result["seconds"]
        repeats.append(len(result["seconds"]))
        cores_busy.append(result["cores_busy"])
    return seconds, {
        "kind": "augmentation",
        "augment": policy,
        "threads": 1,
        "device": "cpu",
        "batch": result["batch"],
        "images_per_second": result["batch"] / float(np.median(seconds)),
        "cores_busy": max(cores_busy),
        "repeats": repeats,
    }


def gain_row(group: Group, gain: Gain) -> tuple[list[float], Row]:
    """Return seconds of training of each augmented run, and the row of the augmentation gain."""
    plain, augmented = _runs(group, "none", gain.seeds), _runs(group, gain.augment, gain.seeds)
    metrics = augmented[0].metrics
    gain_facts = asdict(gain)
    del gain_facts["network"]
    seconds = [run.metrics.train_seconds for run in augmented]
    return seconds, {
        "kind": "gain",
        "model": gain.network,
        **gain_facts,
        "dataset": metrics.dataset,
        "official": metrics.official,
        "data_sha256": metrics.data_sha256,
        "n_test": metrics.n_test,
        "threads": metrics.threads,
        "minutes_to_75_plain": _mean_minutes(plain),
        "minutes_to_75_augmented": _mean_minutes(augmented),
    }


def _runs(group: Group, augment: str, seeds: Sequence[int]) -> list[FinishedRun]:
    return [run for run in group.results if run.augment == augment and run.seed in seeds]


def _mean_minutes(runs: Sequence[FinishedRun]) -> float | None:
    """Minutes of training until an epoch tests at 75 %, mean over runs; None if one never does."""
    minutes = []
    for run in runs:
        value = _minutes(run)
        if value is None:
            return None
        minutes.append(value)
    return float(np.mean(minutes))


def _minutes(run: FinishedRun) -> float | None:
    seconds = 0.0
    for epoch, timing in zip(run.history, run.run.timing, strict=True):
        seconds += timing.train_seconds
        if epoch.test_accuracy is not None and epoch.test_accuracy >= GOAL:
            return seconds / 60
    return None
