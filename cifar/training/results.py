"""The results of a training: its model, its predictions for the test set and its metrics."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar import networks
from cifar.data.dataset import Dataset
from cifar.metrics import classification
from cifar.metrics.classification import Scores
from cifar.networks import weights_sha256
from cifar.runs.run import Run
from cifar.runs.schemas import FORMAT_VERSION, Epoch, Metrics, Timing
from cifar.system import files, hardware
from cifar.training.checkpoint import Progress


def save(run: Run, model: Any, dataset: Dataset, data: Dataset, progress: Progress) -> None:
    """Write a trained run's model, its predictions and, last of all, its metrics, which make it a finished run.

    Args:
        run: which the caller has locked.
        model: the Keras model after the last epoch.
        dataset: whole.
        data: the part of it that the recipe uses.
        progress: all epochs.

    Raises:
        StorageError: a file could not be written.
    """
    predictor = networks.predictor(model)
    probabilities = classification.predict(predictor, data.x_test)
    train_probabilities = classification.predict(predictor, data.x_train)
    with files.atomic_replace(run.path / "model.keras") as path:
        _without_optimizer(model, run.recipe.network).save(path)
    _save_predictions(run, probabilities, data.y_test)
    metrics = Metrics(
        format_version=FORMAT_VERSION,
        **_recipe_fields(run, dataset, data),
        **_score_fields(classification.score(probabilities, data.y_test), dataset.class_names),
        **_clean_score_fields(classification.score(train_probabilities, data.y_train)),
        **_timing_fields(progress.timing),
        accuracy_mean_last_5_epochs=_mean_accuracy_of_last_epochs(progress.history),
        parameters=int(model.count_params()),
        weights_sha256=weights_sha256(model),
        probabilities_sha256=classification.sha256(probabilities),
        history_sha256=files.sha256(run.path / "history.jsonl"),
        peak_memory_bytes=hardware.peak_memory(),
    )
    run.write_json("metrics.json", metrics.model_dump())


def _without_optimizer(model: Any, network: str) -> Any:
    """Return a copy of a model that every Keras can load: our optimizers and schedules are not in it."""
    copy = networks.build_with_fresh_names(network)
    copy.set_weights(model.get_weights())
    return copy


def _save_predictions(run: Run, probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, probabilities=probabilities, labels=labels)
    files.write(run.path / "predictions.npz", buffer.getvalue())


def _recipe_fields(run: Run, dataset: Dataset, data: Dataset) -> dict[str, Any]:
    """Return what was trained; `data` is the part of the data set that was used."""
    return {
        "network": run.recipe.network,
        "augment": run.recipe.policy.name,
        "seed": run.recipe.seed,
        "epochs": run.recipe.epochs,
        "threads": run.recipe.threads,
        "dataset": dataset.name,
        "official": dataset.official,
        "data_sha256": dataset.sha256,
        "n_train": len(data.x_train),
        "hold_out": run.recipe.hold_out,
    }


def _score_fields(scores: Scores, class_names: Sequence[str]) -> dict[str, Any]:
    return {
        "n_test": scores.n,
        "correct": scores.correct,
        "accuracy": scores.accuracy,
        "accuracy_interval": scores.interval,
        "loss": scores.loss,
        "ece": scores.ece,
        "per_class": dict(zip(class_names, scores.per_class, strict=True)),
    }


def _clean_score_fields(scores: Scores) -> dict[str, Any]:
    """Return the scores for the training images without augmentation."""
    return {"train_accuracy_clean": scores.accuracy, "train_loss_clean": scores.loss}


def _timing_fields(timing: Sequence[Timing]) -> dict[str, Any]:
    """Return the training time and the median speed without the first epoch, which contains the compilation."""
    settled = timing[1:] or timing
    return {
        "train_seconds": sum(epoch.train_seconds for epoch in timing),
        "images_per_second": float(np.median([epoch.images_per_second for epoch in settled])),
    }


def _mean_accuracy_of_last_epochs(history: Sequence[Epoch]) -> float | None:
    """Return the mean test accuracy of the last five epochs; None if there are fewer."""
    last = history[-5:]
    if len(last) < 5:
        return None
    return float(np.mean([epoch.test_accuracy for epoch in last]))
