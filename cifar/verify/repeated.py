"""The check `repeated`: a recipe trained again gives the same bits; in another environment, the distance."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.export import agreement_and_difference
from cifar.runs.loading import load_keras
from cifar.runs.run import Run, locked_run
from cifar.runs.schemas import Epoch, Identity, Timing
from cifar.training import loop
from cifar.training.callback import Callback
from cifar.verify import consistency
from cifar.verify.check_result import (
    CheckOptions,
    CheckResult,
    DifferenceError,
    abbreviate,
    compare_epochs,
    compare_histories,
    count_epochs,
)

SCORES = ("correct", "loss", "ece", "train_accuracy_clean", "train_loss_clean", "per_class")


def check(run: Run, data: Dataset, options: CheckOptions) -> CheckResult:
    """Train a run's recipe again, comparing every epoch with its history, and compare the scores and predictions.

    Call it in a fresh process in which the backend is configured.
    """
    inconsistency = consistency.find_inconsistency(run)
    if inconsistency:
        return CheckResult("different", inconsistency)
    epochs = options.epochs_to_train(run)
    mismatches = loop.environment_mismatches(run, options.threads)
    with tempfile.TemporaryDirectory(prefix="cifar-verify-") as scratch:
        try:
            repeated = train_again(run, data, epochs, options, Path(scratch), compare=not mismatches)
            if not mismatches:
                _compare_results(run, repeated)
        except DifferenceError as difference:
            return CheckResult("different", str(difference), epochs)
        changed = consistency.find_changed_history(run)  # after the training, which may have named the epoch
        if changed:
            return CheckResult("different", changed, epochs)
        if mismatches:
            return _measure_distance(run, repeated, mismatches)
    compared = f"weights and history of {count_epochs(epochs)}"
    if _is_whole(run, epochs):
        compared += " and the predictions"
    return CheckResult("equal", f"{compared} are the same, to the bit", epochs)


def train_again(run: Run, data: Dataset, epochs: int, options: CheckOptions, scratch: Path, compare: bool) -> Run:
    """Train the first epochs of a run's recipe in another folder.

    Args:
        run: the recorded run.
        data: its data set, whole.
        epochs: how many.
        options: threads and Callback.
        scratch: an empty folder.
        compare: whether to compare every epoch with the run's history.

    Raises:
        DifferenceError: an epoch differs from the recorded one.
        UsageError: the network is no longer the one that was trained.
    """
    recipe = run.recipe.model_copy(update={"threads": options.threads})
    identity = Identity.of(recipe, data.sha256, loop.architecture_hash(recipe))
    if identity.network_sha256 != run.identity.network_sha256:
        raise UsageError(f"{run.path}: the network '{recipe.network}' is no longer the one that was trained.")
    with locked_run(scratch, identity) as repeated, options.make_callback(recipe) as callback:
        if compare:
            callback = _ComparingCallback(callback, run.history)
        loop.train(repeated, data, callback, last_epoch=epochs)
    return repeated


@dataclass(frozen=True)
class _ComparingCallback:
    """A Callback that stops the training at the first epoch that differs from the recorded one."""

    callback: Callback
    recorded: list[Epoch]

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """Pass it on."""
        self.callback.step(epoch, images, loss, accuracy)

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Pass it on, and compare."""
        self.callback.epoch(line, timing)
        compare_epochs(self.recorded[line.epoch - 1], line)


def _is_whole(run: Run, epochs: int) -> bool:
    """Whether so many epochs are all of a finished run."""
    return run.finished and epochs == len(run.history)


def _compare_results(run: Run, repeated: Run) -> None:
    """Compare the history again, and the scores and predictions if the run was trained to its end.

    Raises:
        DifferenceError: at the first that differs.
    """
    compare_histories(run.history, repeated.history)  # a Callback is not called for an epoch that diverged
    if not _is_whole(run, len(repeated.history)):
        return
    for name in SCORES:
        recorded_value = getattr(run.metrics, name)
        repeated_value = getattr(repeated.metrics, name)
        if repeated_value != recorded_value:
            raise DifferenceError(
                f"{name} is {abbreviate(recorded_value)} in metrics.json, {abbreviate(repeated_value)} here"
            )
    if consistency.probabilities_sha256(run) != consistency.probabilities_sha256(repeated):
        raise DifferenceError("the predictions are not those of the run, though the weights are")


def _measure_distance(run: Run, repeated: Run, mismatches: list[str]) -> CheckResult:
    """Compare two trainings of a recipe in different environments."""
    epochs = len(repeated.history)
    accuracy_recorded = run.history[epochs - 1].test_accuracy
    accuracy_repeated = repeated.history[-1].test_accuracy
    figures: dict[str, Any] = {
        "environment_mismatches": mismatches,
        "accuracy_recorded": accuracy_recorded,
        "accuracy_repeated": accuracy_repeated,
    }
    message = (
        f"The environment differs ({'; '.join(mismatches)}). After {count_epochs(epochs)}: "
        f"test accuracy {_percent(accuracy_recorded)} recorded, {_percent(accuracy_repeated)} here"
    )
    if _is_whole(run, epochs) and repeated.finished and (run.path / "model.keras").exists():
        figures.update(_compare_models(run, repeated))
        message += (
            f"; {figures['agreement']:.1%} of the predicted classes agree; the weights differ by "
            f"{figures['weights_relative_difference']:.2g} of their norm, "
            f"at most {figures['weights_max_difference']:.2g}"
        )
    else:
        message += "; nothing else can be compared: a run keeps the weights of its last epoch only"
    if any(mismatch.startswith("training_step ") for mismatch in mismatches):
        message += f". The commit that trained it can verify it: {run.environment.get('commit') or 'not recorded'}"
    return CheckResult("distance", message, epochs, figures)


def _compare_models(run: Run, repeated: Run) -> dict[str, float]:
    recorded_weights = _flat_weights(run)
    difference = recorded_weights - _flat_weights(repeated)
    agreement, max_difference = agreement_and_difference(run.predictions()[0], repeated.predictions()[0])
    return {
        "weights_relative_difference": float(np.linalg.norm(difference) / np.linalg.norm(recorded_weights)),
        "weights_max_difference": float(np.abs(difference).max()),
        "agreement": agreement,
        "probabilities_max_difference": max_difference,
    }


def _flat_weights(run: Run) -> NDArray[np.float64]:
    """Return all weights of a run's model in one array."""
    weights = load_keras(run).get_weights()
    return np.concatenate([np.ravel(weight) for weight in weights]).astype(np.float64)


def _percent(accuracy: float | None) -> str:
    if accuracy is None:
        return "none (diverged)"
    return f"{accuracy:.2%}"
