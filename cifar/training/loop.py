"""The training loop: a run, its data and its model in; a finished run folder out, to the bit the same every time."""

import io
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from cifar import networks
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.metrics import classification
from cifar.networks import architecture_sha256, build_with_fresh_names, weights_sha256
from cifar.recipes import Recipe
from cifar.runs.run import Run
from cifar.runs.schemas import FORMAT_VERSION, Epoch, Metrics, Timing
from cifar.system import environment, files, hardware
from cifar.training import backends, checkpoint
from cifar.training.backends import DivergedError, EpochTrainer
from cifar.training.callback import Callback
from cifar.training.checkpoint import Progress


def build_and_compile(recipe: Recipe) -> Any:
    """Return the recipe's model, seeded, compiled, and built, its optimizer too: ready for its first step."""
    import keras

    keras.utils.set_random_seed(recipe.seed)
    model = build_with_fresh_names(recipe.network)
    model.compile(
        optimizer=keras.optimizers.RMSprop(recipe.learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=recipe.backend == "jax",
    )
    model.optimizer.build(model.trainable_variables)
    return model


def architecture_hash(recipe: Recipe) -> str:
    """SHA-256 of the configuration of the recipe's network."""
    return architecture_sha256(build_with_fresh_names(recipe.network))


def train(run: Run, dataset: Dataset, callback: Callback) -> None:
    """Train a run to its end, from its checkpoint where there is one; nothing is done to a run that has ended.

    Args:
        run: held by the caller.
        dataset: whole; the recipe says how much of it is used.
        callback: is told of every step and epoch.

    Raises:
        UsageError: the run was begun under other versions or another instruction set, or its checkpoint is damaged.
        StorageError: a file could not be written; the epochs before it are on disk.
    """
    if run.finished or run.diverged:
        return
    recipe = run.recipe
    used = dataset.head(recipe.train_images)
    _record_environment(run, dataset)
    model = build_and_compile(recipe)
    train_on = backends.epoch_trainer(model, recipe, used)
    progress = checkpoint.restore(run, model)
    try:
        for epoch in range(len(progress.history) + 1, recipe.epochs + 1):
            line, timing = _train_epoch(model, train_on, used, epoch, callback)
            progress.history.append(line)
            progress.timing.append(timing)
            checkpoint.save(run, model, progress)
            callback.epoch(line, timing)
    except DivergedError as error:
        nothing = {"loss": None, "accuracy": None, "test_loss": None, "test_accuracy": None}
        lost = Epoch(epoch=epoch, weights_sha256=weights_sha256(model), **nothing)
        run.write_lines("history.jsonl", [*progress.history, lost])
        run.write_json("diverged.json", {"format_version": FORMAT_VERSION, "epoch": epoch, "reason": str(error)})
        checkpoint.remove(run)
        return
    _finish(run, model, used, dataset, progress)


def _record_environment(run: Run, dataset: Dataset) -> None:
    """Write where the run is trained; a run that goes on must go on under what decides its bits."""
    here = environment.facts(run.recipe.threads, run.recipe.backend)
    if not (run.path / "environment.json").exists():
        run.write_json("environment.json", {**here, "dataset": dataset.facts()})
        return
    differences = environment_mismatches(run, run.recipe.threads)
    if differences:
        raise UsageError(
            f"{run.path} was begun elsewhere and would not end the same here: {'; '.join(differences)}. "
            "Finish it there, or train it anew in another folder."
        )


def environment_mismatches(run: Run, threads: int) -> list[str]:
    """In words, what decides a run's bits and is not here, with so many threads, as it was there.

    Raises:
        UsageError: environment.json does not say where the run was begun.
    """
    try:
        there = {**environment.key(run.environment), "threads": run.recipe.threads}
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{run.path / 'environment.json'}: it does not say where this run was begun.") from error
    here = {**environment.key(environment.facts(threads, run.recipe.backend)), "threads": threads}
    then = {name: there.get(name, "not said") for name in here}
    return [f"{name} was {then[name]}, is {here[name]}" for name in here if then[name] != here[name]]


def _train_epoch(
    model: Any, train_on: EpochTrainer, data: Dataset, epoch: int, callback: Callback
) -> tuple[Epoch, Timing]:
    """Visit every training image once, then score the test set."""
    started = time.perf_counter()
    loss, accuracy = train_on(epoch, callback)
    trained = time.perf_counter()
    probabilities = classification.predict(networks.predictor(model), data.x_test)
    if not np.isfinite(probabilities).all():  # the last update of the epoch, which no training loss has seen
        raise DivergedError(f"the model answers with what is not a number after epoch {epoch}")
    scores = classification.score(probabilities, data.y_test)
    line = Epoch(
        epoch=epoch,
        loss=loss,
        accuracy=accuracy,
        test_loss=scores.loss,
        test_accuracy=scores.accuracy,
        weights_sha256=weights_sha256(model),
    )
    train_seconds, score_seconds = trained - started, time.perf_counter() - trained
    return line, Timing(
        epoch=epoch,
        train_seconds=train_seconds,
        score_seconds=score_seconds,
        images_per_second=len(data.x_train) / train_seconds,
    )


def _finish(run: Run, model: Any, used: Dataset, dataset: Dataset, progress: Progress) -> None:
    """Write the model, what it says of the test set, and last of all its scores."""
    predict = networks.predictor(model)
    probabilities = classification.predict(predict, used.x_test)
    scores = classification.score(probabilities, used.y_test)
    clean = classification.score(classification.predict(predict, used.x_train), used.y_train)
    with files.atomic_replace(run.path / "model.keras") as path:
        model.save(path)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, probabilities=probabilities, labels=used.y_test)
    files.write(run.path / "predictions.npz", buffer.getvalue())
    metrics = Metrics(
        format_version=FORMAT_VERSION,
        network=run.recipe.network,
        augment=run.recipe.policy.name,
        seed=run.recipe.seed,
        epochs=run.recipe.epochs,
        dataset=dataset.name,
        official=dataset.official,
        data_sha256=dataset.sha256,
        n_train=len(used.x_train),
        n_test=scores.n,
        correct=scores.correct,
        accuracy=scores.accuracy,
        accuracy_interval=scores.interval,
        accuracy_mean_last_5_epochs=_mean_accuracy_of_last_epochs(progress.history),
        loss=scores.loss,
        per_class=dict(zip(dataset.class_names, scores.per_class, strict=True)),
        ece=scores.ece,
        train_accuracy_clean=clean.accuracy,
        train_loss_clean=clean.loss,
        parameters=int(model.count_params()),
        weights_sha256=weights_sha256(model),
        probabilities_sha256=classification.sha256(probabilities),
        history_sha256=files.sha256(run.path / "history.jsonl"),
        images_per_second=_median_images_per_second(progress.timing),
        train_seconds=sum(line.train_seconds for line in progress.timing),
        peak_memory_bytes=hardware.peak_memory(),
        threads=run.recipe.threads,
    )
    run.write_json("metrics.json", metrics.model_dump())
    checkpoint.remove(run)


def _mean_accuracy_of_last_epochs(history: Sequence[Epoch]) -> float | None:
    """Mean test accuracy of the last five epochs; None if there are fewer."""
    last = history[-5:]
    if len(last) < 5:
        return None
    return float(np.mean([line.test_accuracy for line in last]))


def _median_images_per_second(timing: Sequence[Timing]) -> float:
    """Median over the epochs without the first, which contains the compilation."""
    settled = timing[1:] or timing
    return float(np.median([line.images_per_second for line in settled]))
