"""The rows of augmentation gain: what a policy gained in finished runs, and how long they trained to reach 75 %."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.gains import Gain
from cifar.analysis.groups import Group
from cifar.benchmark.session import Row

GOAL = 0.75  # test accuracy that a run takes some minutes to reach


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
        value = minutes_to(run, GOAL)
        if value is None:
            return None
        minutes.append(value)
    return float(np.mean(minutes))


def minutes_to(run: FinishedRun, goal: float) -> float | None:
    """Minutes of training until an epoch reaches a test accuracy; None if none does."""
    seconds = 0.0
    for epoch, timing in zip(run.history, run.run.timing, strict=True):
        seconds += timing.train_seconds
        if epoch.test_accuracy is not None and epoch.test_accuracy >= goal:
            return seconds / 60
    return None
