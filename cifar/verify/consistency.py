"""What a run folder keeps must agree with itself before anything is trained to compare it with."""

from collections.abc import Iterator
from typing import Any

from cifar.errors import UsageError
from cifar.metrics import classification
from cifar.runs.keras_model import load_keras
from cifar.runs.run import Run
from cifar.system import files
from cifar.training import checkpoint
from cifar.verify.result import short


def find_inconsistency(run: Run) -> str | None:
    """The first thing in a run folder that contradicts another or cannot be read, in words; None if there is none."""
    try:
        for what, there, here in _claims(run):
            if there != here:
                return f"{what}: {short(there)} was recorded, {short(here)} is found"
    except UsageError as error:
        return str(error).rstrip(".")
    return None


def changed_history(run: Run) -> str | None:
    """Whether a finished run's history.jsonl is another than the one that metrics.json was written beside."""
    if not run.finished:
        return None
    there, here = run.metrics.history_sha256, files.sha256(run.path / "history.jsonl")
    if there == here:
        return None
    return f"history.jsonl was changed after the run: its SHA-256 was {short(there)}, is {short(here)}"


def probabilities_sha256(run: Run) -> str:
    """Digest of a finished run's predictions; the recorded one where they are not kept."""
    if (run.path / "predictions.npz").exists():
        return classification.sha256(run.predictions()[0])
    return run.metrics.probabilities_sha256


def _claims(run: Run) -> Iterator[tuple[str, Any, Any]]:
    """What is recorded in one place, and what is found in another."""
    history = run.history
    yield "history.jsonl: the epochs", list(range(1, len(history) + 1)), [line.epoch for line in history]
    if run.recipe.sha256 != run.identity.recipe_sha256:
        yield "recipe.json: the digest", run.identity.recipe_sha256, run.recipe.sha256
    if run.finished:
        yield from _claims_of_finished(run)
    elif not run.diverged:
        lines = checkpoint.history(run)
        yield "history.jsonl: its lines, beside checkpoint.npz", lines[: len(history)], history


def _claims_of_finished(run: Run) -> Iterator[tuple[str, Any, Any]]:
    metrics, history = run.metrics, run.history
    yield "history.jsonl: the number of epochs", run.recipe.epochs, len(history)
    last = history[-1]
    yield "history.jsonl: the last weights", metrics.weights_sha256, last.weights_sha256
    yield "history.jsonl: the last test accuracy", metrics.accuracy, last.test_accuracy
    yield "history.jsonl: the last test loss", metrics.loss, last.test_loss
    if (run.path / "predictions.npz").exists():
        probabilities, labels = run.predictions()
        yield "predictions.npz: its digest", metrics.probabilities_sha256, classification.sha256(probabilities)
        yield (
            "predictions.npz: the right ones",
            metrics.correct,
            classification.score(probabilities, labels).correct,
        )
    if (run.path / "model.keras").exists():
        try:
            load_keras(run)
        except UsageError as error:
            yield "model.keras", "a model with the scored weights", str(error)
