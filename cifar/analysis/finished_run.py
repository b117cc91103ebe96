"""A finished run as a report sees it."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.formats import manifest
from cifar.formats.manifest import ManifestEntry
from cifar.metrics import classification
from cifar.metrics.classification import Scores
from cifar.runs.run import Run
from cifar.runs.schemas import Epoch, Verification
from cifar.system import files

LAST = 5  # epochs in a mean over the last ones


class Result:
    """A finished run as a report sees it.

    Attributes:
        run: its folder.
        probabilities, labels: its predictions of the test set.
        scores: made anew from them.
        history: its epochs.
        verifications: what `cifar verify` found, the latest of each rung.

    Raises:
        UsageError: a file is damaged, or the run's metrics were written beside another history or other predictions.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.metrics = run.metrics
        self.probabilities, self.labels = run.predictions()
        self.scores: Scores = classification.score(self.probabilities, self.labels)
        self.history: list[Epoch] = run.history
        self.verifications: list[Verification] = list(
            {verification.check: verification for verification in run.verifications}.values()
        )  # the latest of each
        self._check_predictions()
        self._check_history()

    def _check_predictions(self) -> None:
        """Raise UsageError unless predictions.npz is the one that metrics.json scores."""
        for name, found in (("n_test", self.scores.n), ("accuracy", self.scores.accuracy)):
            if found != getattr(self.metrics, name):
                raise UsageError(
                    f"{self.run.path}: predictions.npz gives {name} {found}, metrics.json says {getattr(self.metrics, name)}."
                )
        self._check_digest("predictions.npz", "probabilities_sha256", classification.sha256(self.probabilities))

    def _check_history(self) -> None:
        """Raise UsageError unless history.jsonl is the whole one of this run."""
        path = self.run.path / "history.jsonl"
        epochs = self.run.recipe.epochs
        in_order = all(line.epoch == number for number, line in enumerate(self.history, start=1))
        if len(self.history) != epochs or not in_order:
            raise UsageError(f"{path}: expected a line for each of {epochs} epochs, in their order.")
        if any(value is None for line in self.history for value in line.model_dump().values()):
            raise UsageError(f"{path}: it has epochs that diverged, and the run is finished.")
        self._check_digest("history.jsonl", "history_sha256", files.sha256(path))

    def _check_digest(self, name: str, field: str, found: str) -> None:
        """Raise UsageError if metrics.json holds another digest of a file."""
        if getattr(self.metrics, field) != found:
            raise UsageError(f"{self.run.path / name}: not the one that metrics.json was written beside.")

    @property
    def network(self) -> str:
        """The network's name, and the backend that trained it if that is not TensorFlow."""
        recipe = self.run.recipe
        return recipe.network if recipe.backend == "tensorflow" else f"{recipe.network} {recipe.backend}"

    @property
    def augment(self) -> str:
        """The policy's name."""
        return self.run.recipe.policy.name

    @property
    def seed(self) -> int:
        """The seed."""
        return self.run.recipe.seed

    def pictures(self, images: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
        """Its test images, (N, 32, 32, 3), from test images by data digest; None where its own are not there."""
        mine = images.get(self.metrics.data_sha256)
        return mine if mine is not None and len(mine) == self.scores.n else None

    @cached_property
    def exported(self) -> list[ManifestEntry]:
        """What its folder's manifest says of files with these weights, whether they are still there or not."""
        return manifest.of_weights(self.run.path / "exports", self.metrics.weights_sha256)

    @cached_property
    def correct_mask(self) -> Any:
        """Which test images it gets right, (N,) bool."""
        return self.probabilities.argmax(axis=1) == self.labels

    def mean_last_epochs(self, field: str) -> float:
        """Mean of a history column over the last five epochs (over all, if there are fewer)."""
        return float(np.mean([getattr(line, field) for line in self.history[-LAST:]]))

    @property
    def loss_gap(self) -> float:
        """Test loss less training loss of the curve, means over the last five epochs."""
        return self.mean_last_epochs("test_loss") - self.mean_last_epochs("loss")

    def misclassified(self, pick: str) -> list[dict[str, Any]]:
        """The ten pictures that a rule of classification.PICKS chooses."""
        names = list(self.metrics.per_class)
        return [
            {
                "index": int(i),
                "true": names[self.labels[i]],
                "predicted": names[self.probabilities[i].argmax()],
                "confidence": float(self.probabilities[i].max()),
            }
            for i in classification.misclassified(self.probabilities, self.labels, pick)
        ]

    def facts(self, pick: str) -> dict[str, Any]:
        """The result ready for JSON."""
        return {
            "path": str(self.run.path),
            **self.metrics.model_dump(),
            "batch_size": self.run.recipe.batch_size,
            "verified": [verification.model_dump() for verification in self.verifications],
            "confusion": self.scores.confusion.tolist(),
            "misclassified": self.misclassified(pick),
        }
