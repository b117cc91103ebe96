"""The rows of finished runs that reach 94 %: how long they trained, by their own records."""

from pathlib import Path

from pydantic import BaseModel

from cifar.analysis.finished_run import FinishedRun
from cifar.benchmark import jobs
from cifar.benchmark.gain import minutes_to
from cifar.benchmark.session import Row
from cifar.benchmark.worker import run_worker
from cifar.errors import CifarError, UsageError
from cifar.system.json_files import Share, parse, read_json

GOAL = 0.94  # test accuracy: the goal of DAWNBench, and of airbench94 with test-time augmentation


class _OfViews(BaseModel):
    accuracy: Share


class _Evaluation(BaseModel):
    weights_sha256: str
    test_time_augmentation: _OfViews


def time_to_accuracy(run: FinishedRun) -> tuple[list[float], Row]:
    """Return seconds of training of each epoch, and the row: when the run reached 94 %, without and with views.

    The seconds are those of the machine on which the run was trained, without scoring. Test-time augmentation is
    that after the last epoch.
    """
    seconds = [timing.train_seconds for timing in run.run.timing]
    minutes = sum(seconds) / 60
    augmented, reason = _accuracy_of_views(run)
    reached = augmented is not None and augmented >= GOAL
    return seconds, {
        "kind": "time-to-accuracy",
        "model": run.network,
        "augment": run.augment,
        "seed": run.seed,
        "epochs": run.metrics.epochs,
        "threads": run.metrics.threads,
        "dataset": run.metrics.dataset,
        "n_test": run.metrics.n_test,
        "accuracy": run.metrics.accuracy,
        "accuracy_mirror_shift": augmented,
        "without_views": reason,  # why there is no such accuracy
        "minutes": minutes,
        "minutes_to_94": minutes_to(run, GOAL),
        "minutes_to_94_mirror_shift": minutes if reached else None,
        "trained_on": run.run.environment["cpu"]["model"],
    }


def _accuracy_of_views(run: FinishedRun) -> tuple[float | None, str]:
    """Return the accuracy with test-time augmentation; or None, and the reason.

    It is scored with the run's model and data, or read from mirror-shift.json where `cifar evaluate` has scored it.
    """
    path = run.run.path / "mirror-shift.json"
    try:
        if path.exists():
            return _recorded_accuracy(run, path), ""
        if not (run.run.path / "model.keras").exists():
            return None, "the run has no model.keras"
        accuracy: float = run_worker(
            jobs.accuracy_of_views, run.metrics.threads, path=run.run.path, views_name="mirror-shift"
        )
    except CifarError as error:
        return None, str(error)
    return accuracy, ""


def _recorded_accuracy(run: FinishedRun, path: Path) -> float:
    """Read what `cifar evaluate --test-time-augmentation mirror-shift --json` wrote about these weights."""
    evaluation = parse(_Evaluation, read_json(path), path)
    if evaluation.weights_sha256 != run.metrics.weights_sha256:
        raise UsageError(f"{path}: of other weights than those of this run.")
    return evaluation.test_time_augmentation.accuracy
