"""The rows of finished runs that reach 94 %: how long they trained, by their own records."""

from cifar.analysis.finished_run import FinishedRun
from cifar.benchmark import jobs
from cifar.benchmark.gain import minutes_to
from cifar.benchmark.session import Row
from cifar.benchmark.worker import run_worker
from cifar.errors import CifarError

GOAL = 0.94  # test accuracy: the goal of DAWNBench, and of airbench94 with test-time augmentation


def time_to_accuracy(run: FinishedRun) -> tuple[list[float], Row]:
    """Return seconds of training of each epoch, and the row: when the run reached 94 %, without and with views.

    The seconds are those of the machine on which the run was trained, without scoring. Test-time augmentation is
    scored here, after the last epoch, where the run's model and its data are at hand.
    """
    seconds = [timing.train_seconds for timing in run.run.timing]
    minutes = sum(seconds) / 60
    augmented = _accuracy_of_views(run)
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
        "minutes": minutes,
        "minutes_to_94": minutes_to(run, GOAL),
        "minutes_to_94_mirror_shift": minutes if reached else None,
        "trained_on": run.run.environment["cpu"]["model"],
    }


def _accuracy_of_views(run: FinishedRun) -> float | None:
    """Accuracy with test-time augmentation; None without the run's model or its data."""
    if not (run.run.path / "model.keras").exists():
        return None
    try:
        accuracy: float = run_worker(
            jobs.accuracy_of_views, run.metrics.threads, path=run.run.path, views_name="mirror-shift"
        )
    except CifarError:
        return None
    return accuracy
