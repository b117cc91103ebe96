"""The recipe trained again: under the same conditions the same weights; under others, how far off it ends."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.export import compare
from cifar.runs.keras_model import load_keras
from cifar.runs.run import Run, locked_run
from cifar.runs.schemas import Epoch, Identity, Timing
from cifar.training import loop
from cifar.training.callback import Callback
from cifar.verify import consistency
from cifar.verify.result import CheckOptions, CheckResult, DifferenceError, compare_lines, count, short


def check(run: Run, data: Dataset, options: CheckOptions) -> CheckResult:
    """Train a run's recipe again, epoch by epoch beside its history, and compare what it ends with.

    Call it in a fresh process whose arithmetic is configured.
    """
    find_inconsistency = consistency.find_inconsistency(run)
    if find_inconsistency:
        return CheckResult("different", find_inconsistency)
    epochs = options.epochs_of(run)
    others = loop.environment_mismatches(run, options.threads)
    with tempfile.TemporaryDirectory(prefix="cifar-verify-") as scratch:
        try:
            again = train_again(run, data, epochs, options, Path(scratch), compared=not others)
            if not others:
                _compare_ends(run, again, epochs)
        except DifferenceError as difference:
            return CheckResult("different", str(difference), epochs)
        changed = consistency.changed_history(run)  # after the training, which may have named the line
        if changed:
            return CheckResult("different", changed, epochs)
        if others:
            return _distance(run, again, epochs, others)
    whole = " and the predictions" if run.finished and epochs == len(run.history) else ""
    return CheckResult("equal", f"weights and history of {count(epochs)}{whole} are the same, to the bit", epochs)


def train_again(run: Run, data: Dataset, epochs: int, options: CheckOptions, scratch: Path, compared: bool) -> Run:
    """Train the first epochs of a run's recipe in another folder.

    Raises:
        DifferenceError: an epoch is not as recorded; only if they are to be compared.
        UsageError: the network is no longer the one that was trained.
    """
    recipe = run.recipe.model_copy(update={"epochs": epochs, "threads": options.threads})
    identity = Identity.of(recipe, data.sha256, loop.architecture_hash(recipe))
    if identity.network_sha256 != run.identity.network_sha256:
        raise UsageError(f"{run.path}: the network '{recipe.network}' is no longer the one that was trained.")
    with locked_run(scratch, identity) as again, options.make_callback(recipe) as callback:
        loop.train(again, data, _Comparing(callback, run.history) if compared else callback)
    return again


@dataclass(frozen=True)
class _Comparing:
    """A Callback that stops the training at the first epoch that is not as recorded."""

    callback: Callback
    recorded: list[Epoch]

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """Pass it on."""
        self.callback.step(epoch, images, loss, accuracy)

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Pass it on, and compare."""
        self.callback.epoch(line, timing)
        compare_lines(self.recorded[line.epoch - 1], line)


def _compare_ends(run: Run, again: Run, epochs: int) -> None:
    """Compare what stands beside the history: all of it if the run was trained to its end, its divergence else."""
    for recorded, made in zip(run.history, again.history, strict=False):
        compare_lines(recorded, made)  # the line of an epoch that diverged is told to no Callback
    if run.finished and epochs == len(run.history):
        ours, theirs = run.metrics, again.metrics
        for name in ("correct", "loss", "ece", "train_accuracy_clean", "train_loss_clean", "per_class"):
            there, here = getattr(ours, name), getattr(theirs, name)
            if there != here:
                raise DifferenceError(f"{name} is {short(there)} in metrics.json, {short(here)} here")
        if consistency.probabilities_sha256(run) != consistency.probabilities_sha256(again):
            raise DifferenceError("the predictions are not those of the run, though the weights are")


def _distance(run: Run, again: Run, epochs: int, others: list[str]) -> CheckResult:
    """How far apart two trainings under different conditions are."""
    there, here = run.history[epochs - 1].test_accuracy, again.history[-1].test_accuracy
    figures: dict[str, Any] = {"conditions": others, "accuracy_there": there, "accuracy_here": here}
    words = f"Under other conditions ({'; '.join(others)}) after {count(epochs)}: "
    words += f"test accuracy {_percent(there)} there, {_percent(here)} here"
    if run.finished and epochs == len(run.history) and again.finished and (run.path / "model.keras").exists():
        figures.update(_model_distance(run, again))
        words += (
            f"; {figures['agreement']:.1%} of the classes agree; the weights differ by "
            f"{figures['weights_relative_difference']:.2g} of their length, at most {figures['weights_largest']:.2g}"
        )
    else:
        words += "; a run keeps the weights of its last epoch alone, so no more can be said of this one"
    return CheckResult("distance", words, epochs, figures)


def _model_distance(run: Run, again: Run) -> dict[str, float]:
    ours, theirs = (
        np.concatenate([np.ravel(w).astype(np.float64) for w in load_keras(each).get_weights()])
        for each in (run, again)
    )
    agreement, largest = compare(run.predictions()[0], again.predictions()[0])
    return {
        "weights_relative_difference": float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours)),
        "weights_largest": float(np.abs(ours - theirs).max()),
        "agreement": agreement,
        "probability_largest": largest,
    }


def _percent(value: float | None) -> str:
    return "none (diverged)" if value is None else f"{value:.2%}"
