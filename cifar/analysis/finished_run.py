"""A finished run with its predictions and scores, checked against each other."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.formats import manifest
from cifar.formats.manifest import ManifestEntry
from cifar.metrics import classification
from cifar.metrics.classification import Scores
from cifar.metrics.misclassified import choose_misclassified
from cifar.networks import catalog
from cifar.recipes import Recipe
from cifar.runs.run import Run
from cifar.runs.schemas import Epoch, Verification
from cifar.system import files

LAST_EPOCHS = 5  # in a mean over the last epochs
TRAINING_FLOP_PER_MULTIPLY_ADD = 6  # two for each of forward, gradient of the weights, gradient of the inputs


class FinishedRun:
    """A finished run with its predictions and scores: all its files are read and checked here, and none later.

    Attributes:
        run: the run folder.
        metrics: its metrics.json.
        probabilities: float32 (N, 10), its predictions of the test set.
        labels: uint8 (N,), the true classes.
        scores: computed from the predictions.
        history: its epochs.
        verifications: the latest result of each check of `cifar verify`.
        exports: the entries of its manifest for files with its weights, whether the files still exist or not.

    Raises:
        UsageError: a file is damaged, or metrics.json was written beside another history or other predictions.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.metrics = run.metrics
        self.probabilities, self.labels = run.predictions()
        self.scores: Scores = classification.score(self.probabilities, self.labels)
        self.history: list[Epoch] = run.history
        latest: dict[str, Verification] = {}
        for verification in run.verifications:
            latest[verification.check] = verification
        self.verifications = list(latest.values())
        self.exports: list[ManifestEntry] = manifest.of_weights(run.path / "exports", self.metrics.weights_sha256)
        self._check_predictions()
        self._check_history()

    def _check_predictions(self) -> None:
        """Raise UsageError unless predictions.npz is the one that metrics.json scores."""
        computed = {"n_test": self.scores.n, "accuracy": self.scores.accuracy}
        for name, value in computed.items():
            recorded = getattr(self.metrics, name)
            if value != recorded:
                raise UsageError(
                    f"{self.run.path}: predictions.npz gives {name} {value}, metrics.json says {recorded}."
                )
        if classification.sha256(self.probabilities) != self.metrics.probabilities_sha256:
            raise self._other_file("predictions.npz")

    def _check_history(self) -> None:
        """Raise UsageError unless history.jsonl is the whole history of this run."""
        path = self.run.path / "history.jsonl"
        epochs = self.run.recipe.epochs
        if [line.epoch for line in self.history] != list(range(1, epochs + 1)):
            raise UsageError(f"{path}: expected a line for each of {epochs} epochs, in their order.")
        for line in self.history:
            if None in line.model_dump().values():
                raise UsageError(f"{path}: epoch {line.epoch} diverged, and the run is finished.")
        if files.sha256(path) != self.metrics.history_sha256:
            raise self._other_file("history.jsonl")

    def _other_file(self, name: str) -> UsageError:
        return UsageError(f"{self.run.path / name}: not the one that metrics.json was written beside.")

    @property
    def network(self) -> str:
        """The network's name, and recipe, precision and backend where they are not the default."""
        return self._qualified(self.run.recipe.network)

    @property
    def label(self) -> str:
        """The network as people read it: `first (32-64-64)`."""
        return self._qualified(catalog.label(self.run.recipe.network))

    def _qualified(self, network: str) -> str:
        words = [network]
        for name in ("recipe", "precision", "backend"):
            value = getattr(self.run.recipe, name)
            if value not in (Recipe.model_fields[name].default, self.run.recipe.network):
                words.append(value)
        return " ".join(words)

    @property
    def augment(self) -> str:
        """The augmentation policy's name."""
        return self.run.recipe.policy.name

    @property
    def seed(self) -> int:
        """The seed."""
        return self.run.recipe.seed

    @property
    def training_flop(self) -> int | None:
        """Floating-point operations of the training's matrix products and convolutions; None if nothing counted them.

        The export counts the multiply-adds of an image (`cifar.networks.multiply_adds`).
        """
        for entry in self.exports:
            if entry.multiply_adds is not None:
                images = self.run.recipe.epochs * self.metrics.n_train
                return TRAINING_FLOP_PER_MULTIPLY_ADD * entry.multiply_adds * images
        return None

    def test_images(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
        """Return the run's test images, uint8 (N, 32, 32, 3), from test images by data digest; None if not there."""
        own = images.get(self.metrics.data_sha256)
        if own is None or len(own) != self.scores.n:
            return None
        return own

    @cached_property
    def correct_mask(self) -> NDArray[np.bool_]:
        """Which test images it classifies correctly, bool (N,)."""
        mask: NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.labels
        return mask

    def mean_last_epochs(self, field: str) -> float:
        """Return the mean of a history column over the last five epochs, or over all if there are fewer."""
        return float(np.mean([getattr(line, field) for line in self.history[-LAST_EPOCHS:]]))

    @property
    def loss_gap(self) -> float:
        """Test loss less training loss of the learning curve, means over the last five epochs."""
        return self.mean_last_epochs("test_loss") - self.mean_last_epochs("loss")

    def misclassified(self, pick: str) -> list[dict[str, Any]]:
        """Return the ten misclassified images that a rule of misclassified.PICKS puts first."""
        names = list(self.metrics.per_class)
        rows = []
        for index in choose_misclassified(self.probabilities, self.labels, pick):
            probabilities = self.probabilities[index]
            row = {
                "index": int(index),
                "true": names[self.labels[index]],
                "predicted": names[probabilities.argmax()],
                "confidence": float(probabilities.max()),
            }
            rows.append(row)
        return rows

    def facts(self, pick: str) -> dict[str, Any]:
        """Return the run ready for JSON."""
        return {
            "path": str(self.run.path),
            **self.metrics.model_dump(),
            "batch_size": self.run.recipe.batch_size,
            "verified": [verification.model_dump() for verification in self.verifications],
            "confusion": self.scores.confusion.tolist(),
            "misclassified": self.misclassified(pick),
        }
