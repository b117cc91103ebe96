"""The training loop: a run folder and a data set in, a finished run out; the same bits every time."""

import time
from typing import Any

import numpy as np

from cifar import networks
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.metrics import classification
from cifar.networks import architecture_sha256, build_with_fresh_names, weights_sha256, whitening
from cifar.recipes import Recipe
from cifar.runs.run import Run
from cifar.runs.schemas import FORMAT_VERSION, Epoch, Timing
from cifar.system import environment
from cifar.training import backends, checkpoint, results
from cifar.training.backends import DivergedError, EpochTrainer
from cifar.training.callback import Callback
from cifar.training.checkpoint import Progress


def build_and_compile(recipe: Recipe, data: Dataset) -> Any:
    """Return the Keras model that is trained: seeded, compiled, and with its optimizer built.

    Args:
        recipe: what is trained.
        data: of which every training image is used.

    Raises:
        UsageError: the recipe does not fit the network or the number of images.
    """
    import keras

    from cifar.training import optimizers

    n = len(data.x_train)
    if recipe.images_per_epoch(n) == 0:
        raise UsageError(f"batch_size {recipe.batch_size} with drop_last: there are only {n} training images.")
    keras.utils.set_random_seed(recipe.seed)
    model = build_with_fresh_names(recipe.network)
    if recipe.initialization == "whitening":
        whitening.initialize(model, data.x_train)
    if recipe.precision == "bfloat16":
        model = networks.in_bfloat16(model)
    model.compile(
        optimizer=optimizers.build(recipe, recipe.steps_per_epoch(n)),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=recipe.backend == "jax",
    )
    model.optimizer.build(model.trainable_variables)
    return model


def training_data(recipe: Recipe, dataset: Dataset) -> Dataset:
    """Return what a recipe uses of a data set; held-out training images take the place of its test images.

    Raises:
        UsageError: the recipe holds out all training images.
    """
    data = dataset.head(recipe.train_images)
    if recipe.hold_out >= len(data.x_train):
        raise UsageError(f"hold_out {recipe.hold_out}: there are only {len(data.x_train)} training images.")
    if recipe.hold_out:
        data = data.hold_out(recipe.hold_out)
    return data


def architecture_hash(recipe: Recipe) -> str:
    """Return the SHA-256 of the configuration of the recipe's network."""
    return architecture_sha256(build_with_fresh_names(recipe.network))


def train(run: Run, dataset: Dataset, callback: Callback, last_epoch: int | None = None) -> None:
    """Train a run to its end, from its checkpoint if there is one; a run that has ended is left as it is.

    Args:
        run: which the caller has locked.
        dataset: whole; the recipe says how many of its training images are used.
        callback: is called after every step and epoch.
        last_epoch: the epoch after which to stop, counted from 1, without changing the recipe: its learning rate
            still falls over all epochs. None for the recipe's last.

    Raises:
        UsageError: the run was started in another environment, or its checkpoint is damaged.
        StorageError: a file could not be written; the epochs before it are on disk.
    """
    if run.finished or run.diverged:
        return
    data = training_data(run.recipe, dataset)
    _record_environment(run, dataset)
    model = build_and_compile(run.recipe, data)
    train_epoch = backends.epoch_trainer(model, run.recipe, data)
    progress = checkpoint.restore(run, model)
    scored = _scored_model(run.recipe, model)
    scored.set_weights(model.get_weights())
    try:
        while len(progress.history) < (last_epoch or run.recipe.epochs):
            number = len(progress.history) + 1
            epoch, timing = _train_and_score(number, run.recipe, model, scored, train_epoch, data, callback)
            progress.history.append(epoch)
            progress.timing.append(timing)
            checkpoint.save(run, model, progress)
            callback.epoch(epoch, timing)
    except DivergedError as error:
        _record_divergence(run, model, progress, str(error))
    else:
        if len(progress.history) < run.recipe.epochs:
            return
        results.save(run, scored, dataset, data, progress)
        checkpoint.remove(run)


def environment_mismatches(run: Run, threads: int) -> list[str]:
    """Return a phrase for everything in this environment that a run's bits depend on and that was different.

    Args:
        run: which has been started.
        threads: with which it would be trained here.

    Raises:
        UsageError: environment.json does not say where the run was started.
    """
    try:
        recorded_key = environment.reproducibility_key(run.environment)
    except (KeyError, TypeError, AttributeError) as error:
        path = run.path / "environment.json"
        raise UsageError(f"{path}: it does not say in which environment this run was started.") from error
    recorded = {**recorded_key, "threads": run.recipe.threads}
    current_key = environment.reproducibility_key(environment.facts(threads, run.recipe.backend))
    current = {**current_key, "threads": threads}
    return environment.key_differences(recorded, current)


def _record_environment(run: Run, dataset: Dataset) -> None:
    """Write environment.json when a run is started; when it is resumed, refuse a different environment."""
    if not (run.path / "environment.json").exists():
        facts = environment.facts(run.recipe.threads, run.recipe.backend)
        run.write_json("environment.json", {**facts, "dataset": dataset.facts()})
        return
    mismatches = environment_mismatches(run, run.recipe.threads)
    if mismatches:
        raise UsageError(
            f"{run.path}: cannot resume: the environment differs: {'; '.join(mismatches)}. "
            "Resume it in the environment in which it was started, or train it again in another folder."
        )


def _scored_model(recipe: Recipe, model: Any) -> Any:
    """Return the float32 model that is scored and saved: the trained one, unless that computes in bfloat16."""
    if recipe.precision == "float32":
        return model
    return build_with_fresh_names(recipe.network)


def _train_and_score(
    number: int, recipe: Recipe, model: Any, scored: Any, train_epoch: EpochTrainer, data: Dataset, callback: Callback
) -> tuple[Epoch, Timing]:
    """Train one epoch, counted from 1, then score the test set."""
    started = time.perf_counter()
    loss, accuracy = train_epoch(number, callback)
    trained = time.perf_counter()
    scored.set_weights(model.get_weights())
    probabilities = classification.predict(networks.predictor(scored), data.x_test)
    if not np.isfinite(probabilities).all():  # after the last update of the epoch, which no training loss shows
        raise DivergedError(f"the model's outputs contain NaN or infinity after epoch {number}")
    scores = classification.score(probabilities, data.y_test)
    epoch = Epoch(
        epoch=number,
        loss=loss,
        accuracy=accuracy,
        test_loss=scores.loss,
        test_accuracy=scores.accuracy,
        weights_sha256=weights_sha256(scored),
    )
    train_seconds = trained - started
    timing = Timing(
        epoch=number,
        train_seconds=train_seconds,
        score_seconds=time.perf_counter() - trained,
        images_per_second=recipe.images_per_epoch(len(data.x_train)) / train_seconds,
    )
    return epoch, timing


def _record_divergence(run: Run, model: Any, progress: Progress, reason: str) -> None:
    """End a run whose loss or outputs became NaN or infinite."""
    number = len(progress.history) + 1
    diverged = Epoch(
        epoch=number,
        loss=None,
        accuracy=None,
        test_loss=None,
        test_accuracy=None,
        weights_sha256=weights_sha256(model),
    )
    run.write_lines("history.jsonl", [*progress.history, diverged])
    run.write_json("diverged.json", {"format_version": FORMAT_VERSION, "epoch": number, "reason": reason})
    checkpoint.remove(run)
