"""The quality gate: a small network is trained, exported and scored here, and compared with a committed baseline.

Nothing is read from a record: the data is drawn, so that it runs on every machine. `gate_baseline` compares.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from cifar import export, recipes
from cifar.data import dataset
from cifar.data.dataset import Dataset
from cifar.errors import CifarError
from cifar.formats import FORMATS, manifest
from cifar.inference import isolated_prediction
from cifar.metrics import classification
from cifar.metrics.classification import Probabilities
from cifar.networks import NETWORKS, PUBLISHED
from cifar.recipes import POLICIES, Recipe
from cifar.runs.run import Run
from cifar.system import environment
from cifar.training import backends, grid, loop
from cifar.training.backends.tensorflow import batches
from cifar.training.callback import SilentCallback
from cifar.verify.first_losses import STEPS, FirstLosses
from cifar.verify.gate_baseline import Measured, Measurement, ReleasedOutputs, Row

RECIPE = recipes.recipe("second", "shift-flip", epochs=8, dataset="synthetic")
DIGEST_IMAGES, DIGEST_EPOCHS = 512, 2
ANY_DROP = 100.0  # points of accuracy that an export may lose: the baseline says how many


def measure(threads: int, released: Path) -> Measured:
    """Train, export and score, which takes a minute.

    Args:
        threads: with which the caller has configured TensorFlow.
        released: a folder of model files with its manifest; each predicts the drawn test images.

    Raises:
        cifar.export.ParityError: an exported file differs from the Keras model.
        CifarError: a released file gives no predictions.
    """
    data = dataset.draw_synthetic()
    step_losses = {}
    for network in PUBLISHED:
        step_losses[network] = first_losses(_recipe(threads).model_copy(update={"network": network}), data)
    with tempfile.TemporaryDirectory(prefix="cifar-gate-") as scratch:
        run = _train(data, Path(scratch), threads)
        exported = Path(scratch, "exported")
        export.export_runs([run], data, list(FORMATS), exported, threads, ANY_DROP)
        predictions = _predict([exported, released], data, threads)
        rows = {"keras": _row(run.predictions()[0], run.predictions()[0], data, run.metrics.weights_sha256)}
        for entry in manifest.read(exported):
            predicted = predictions[exported / entry.file]
            rows[entry.format] = _row(run.predictions()[0], predicted, data, entry.sha256)
    released_outputs = {}
    for entry in manifest.read(released):
        released_outputs[entry.file] = ReleasedOutputs.of(predictions[released / entry.file], entry.precision)
    measurement = Measurement(
        reproducibility_key=reproducibility_key(threads),
        step_losses=step_losses,
        rows=rows,
        released_sha256={name: outputs.sha256 for name, outputs in released_outputs.items()},
    )
    return Measured(digest_inputs(data), released_outputs, measurement)


def reproducibility_key(threads: int) -> dict[str, object]:
    """Return all that the bits of the gate depend on in this process, the converters and runtimes among it."""
    facts = environment.facts(threads)
    return {**facts["packages"], **environment.reproducibility_key(facts), "threads": threads}


def digest_inputs(data: Dataset) -> dict[str, str]:
    """Return the SHA-256 of all that does not depend on the machine: images, batches and architectures."""
    digests = {"drawn images": data.sha256}
    few = data.head(DIGEST_IMAGES)
    for policy in POLICIES.values():
        recipe = RECIPE.model_copy(update={"policy": policy})
        digest = hashlib.sha256()
        for epoch in range(1, DIGEST_EPOCHS + 1):
            for images, targets in batches(recipe, few, epoch):
                digest.update(images.tobytes())
                digest.update(targets.tobytes())
        digests[f"batches, {policy.name}"] = digest.hexdigest()
    for network in NETWORKS:
        digests[f"architecture, {network}"] = loop.architecture_hash(RECIPE.model_copy(update={"network": network}))
    return digests


def first_losses(recipe: Recipe, data: Dataset) -> list[float]:
    """Return the losses of the first STEPS batches of a training."""
    callback = FirstLosses(_Stopping())
    model = loop.build_and_compile(recipe, data)
    with suppress(_EnoughError):
        backends.epoch_trainer(model, recipe, data)(1, callback)
    return callback.losses


class _EnoughError(Exception):
    """Ends a training."""


class _Stopping(SilentCallback):
    """A Callback that ends the training after STEPS batches."""

    def __init__(self) -> None:
        self._steps = 0

    def step(self, *_: object) -> None:
        """Count the batch."""
        self._steps += 1
        if self._steps == STEPS:
            raise _EnoughError


def _recipe(threads: int) -> Recipe:
    return RECIPE.model_copy(update={"threads": threads})


def _train(data: Dataset, folder: Path, threads: int) -> Run:
    silent = nullcontext(SilentCallback())
    (result,) = grid.train_all([_recipe(threads)], data, folder, lambda *_: silent, lambda _: None)
    assert result.run is not None, "no other process knows the folder"
    if result.run.diverged:
        raise CifarError(f"The training of the quality gate diverged: {result.run.divergence}.")
    return result.run


def _predict(folders: Sequence[Path], data: Dataset, threads: int) -> dict[Path, Probabilities]:
    """Return what every file in the manifests of folders predicts for the test images: one process per format."""
    predictions = {}
    for name in FORMATS:
        paths = []
        for folder in folders:
            paths += [folder / entry.file for entry in manifest.read(folder) if entry.format == name]
        results = isolated_prediction.predict_in_subprocess(name, paths, data.x_test, threads)
        for path, result in zip(paths, results, strict=True):
            if isinstance(result, CifarError):
                raise result
            predictions[path] = result
    return predictions


def _row(expected: Probabilities, predicted: Probabilities, data: Dataset, sha256: str) -> Row:
    """Return the row of a file, or of the Keras model, whose predictions are the expected ones."""
    classes = predicted.argmax(axis=1)
    correct = classes == data.y_test
    return Row(
        sha256=sha256,
        outputs_sha256=classification.sha256(predicted),
        n_test=len(classes),
        accuracy=float(correct.mean()),
        agreement=float((classes == expected.argmax(axis=1)).mean()),
        correct_mask=classification.pack_mask(correct),
    )
