"""Whether the files of a run folder agree with each other: found out before anything is compared with them."""

from collections.abc import Iterator
from typing import Any

from cifar.errors import UsageError
from cifar.metrics import classification
from cifar.runs.loading import load_keras
from cifar.runs.run import Run
from cifar.system import files
from cifar.training import checkpoint
from cifar.verify.check_result import abbreviate

Fact = tuple[str, Any, Any]
"""What is compared, its recorded value, its actual value."""


def find_inconsistency(run: Run) -> str | None:
    """Return a sentence about the first fact of a run folder that contradicts another or cannot be read, or None."""
    try:
        for subject, recorded, actual in _facts(run):
            if recorded != actual:
                return f"{subject}: {abbreviate(recorded)} was recorded, but it is {abbreviate(actual)}"
    except UsageError as error:
        return str(error).rstrip(".")
    return None


def find_changed_history(run: Run) -> str | None:
    """Return a sentence if a finished run's history.jsonl no longer has the digest in metrics.json, or None."""
    if not run.finished:
        return None
    recorded = run.metrics.history_sha256
    actual = files.sha256(run.path / "history.jsonl")
    if actual == recorded:
        return None
    return f"history.jsonl was changed after the run: its SHA-256 was {abbreviate(recorded)}, is {abbreviate(actual)}"


def probabilities_sha256(run: Run) -> str:
    """Return the digest of a finished run's predictions; the recorded digest if the file was not kept."""
    if (run.path / "predictions.npz").exists():
        return classification.sha256(run.predictions()[0])
    return run.metrics.probabilities_sha256


def _facts(run: Run) -> Iterator[Fact]:
    history = run.history
    numbers = [epoch.epoch for epoch in history]
    yield "history.jsonl: the epochs", list(range(1, len(history) + 1)), numbers
    if run.recipe.sha256 != run.identity.recipe_sha256:
        yield "recipe.json: the digest", run.identity.recipe_sha256, run.recipe.sha256
    if run.finished:
        yield from _facts_of_finished(run)
    elif not run.diverged:
        recorded = checkpoint.history(run)
        yield "history.jsonl: its lines, compared with checkpoint.npz", recorded[: len(history)], history


def _facts_of_finished(run: Run) -> Iterator[Fact]:
    metrics = run.metrics
    history = run.history
    yield "history.jsonl: the number of epochs", run.recipe.epochs, len(history)
    last = history[-1]
    yield "history.jsonl: the last weights", metrics.weights_sha256, last.weights_sha256
    yield "history.jsonl: the last test accuracy", metrics.accuracy, last.test_accuracy
    yield "history.jsonl: the last test loss", metrics.loss, last.test_loss
    if (run.path / "predictions.npz").exists():
        probabilities, labels = run.predictions()
        correct = classification.score(probabilities, labels).correct
        yield "predictions.npz: its digest", metrics.probabilities_sha256, classification.sha256(probabilities)
        yield "predictions.npz: the number of correct predictions", metrics.correct, correct
    if (run.path / "model.keras").exists():
        try:
            load_keras(run)
        except UsageError as error:
            yield "model.keras", "a model with the scored weights", str(error)
