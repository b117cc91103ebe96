"""One run on disk: a folder whose facts are written once, each file whole, and never changed.

recipe.json       what is trained, on which data, with which network     before the first step
environment.json  the machine, the versions and the settings             before the first step
history.jsonl     a line per epoch: losses, accuracies, digest of the weights
timing.jsonl      a line per epoch: seconds and images per second
checkpoint.npz    everything needed to resume; removed when the run has ended
diverged.json     only if the loss became NaN or infinite
model.keras, predictions.npz, metrics.json                               at the end, metrics.json last
figures/, exports/                                                       derived from the rest
verify.jsonl      a line per check of `cifar verify`
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cifar.errors import BusyError, UsageError
from cifar.metrics.classification import CLASSES
from cifar.recipes import Recipe
from cifar.runs.schemas import (
    FORMAT_VERSION,
    VERIFICATION_FORMAT_VERSION,
    Epoch,
    Identity,
    Metrics,
    Timing,
    Verification,
)
from cifar.system import files
from cifar.system.files import lock
from cifar.system.json_files import check_version, parse, read_json, read_lines
from cifar.system.npz_files import read_npz

MAX_PREDICTIONS_BYTES = 64 << 20  # the predictions of 10,000 images are 400 thousand bytes

Predictions = tuple[NDArray[np.float32], NDArray[np.uint8]]
"""Probabilities (N, 10) and labels (N,) of the test images, in the order of the data set."""


class Run:
    """An existing run folder.

    Args:
        path: the folder.

    Raises:
        UsageError: there is no such folder, it is not a run, or it has another format version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise UsageError(f"{path}: there is no such run folder.")
        if not (path / "recipe.json").is_file():
            raise UsageError(f"{path}: not a run folder: it has no recipe.json.")
        content = read_json(path / "recipe.json")
        check_version(content, path / "recipe.json", FORMAT_VERSION)
        self.identity = parse(Identity, content, path / "recipe.json")

    @property
    def recipe(self) -> Recipe:
        """What is trained."""
        return self.identity.recipe

    @property
    def environment(self) -> dict[str, Any]:
        """The machine, the versions and the settings of its training."""
        return read_json(self.path / "environment.json")

    def require_finished(self) -> None:
        """Raise UsageError unless the run is finished."""
        if not self.finished:
            raise UsageError(f"{self.path}: this run is {self.status}; it has no results yet.")

    def require_test_scores(self) -> None:
        """Raise UsageError if the run scored held-out training images instead of the test images."""
        if self.recipe.hold_out:
            raise UsageError(
                f"{self.path}: it scored {self.recipe.hold_out:,} held-out training images, to choose a recipe; "
                "train that recipe without --hold-out for this."
            )

    @cached_property
    def metrics(self) -> Metrics:
        """The final scores, read once: a finished run does not change.

        Raises:
            UsageError: the run is not finished, or the file is damaged.
        """
        self.require_finished()
        path = self.path / "metrics.json"
        return parse(Metrics, read_json(path), path)

    @property
    def history(self) -> list[Epoch]:
        """The epochs so far."""
        return read_lines(Epoch, self.path / "history.jsonl")

    @property
    def timing(self) -> list[Timing]:
        """The durations of the epochs so far."""
        return read_lines(Timing, self.path / "timing.jsonl")

    @property
    def verifications(self) -> list[Verification]:
        """The results of `cifar verify`, in the order in which they were written."""
        return read_lines(Verification, self.path / "verify.jsonl", VERIFICATION_FORMAT_VERSION)

    @property
    def finished(self) -> bool:
        """Whether metrics.json, the last file of a run, exists."""
        return (self.path / "metrics.json").is_file()

    @property
    def diverged(self) -> bool:
        """Whether its loss became NaN or infinite."""
        return (self.path / "diverged.json").is_file()

    @property
    def divergence(self) -> str:
        """In which epoch it diverged, and how."""
        return str(read_json(self.path / "diverged.json").get("reason", "no reason given"))

    @property
    def status(self) -> str:
        """`finished`, `diverged`, `running` or `interrupted`."""
        if self.finished:
            return "finished"
        if self.diverged:
            return "diverged"
        try:
            with lock(self.path):
                return "interrupted"
        except BusyError:
            return "running"
        except OSError:  # a read-only place: no process trains there
            return "interrupted"

    def predictions(self) -> Predictions:
        """Return the probabilities and the labels of the test set.

        Raises:
            UsageError: the file is not readable, or holds anything else.
        """
        path = self.path / "predictions.npz"
        probabilities, labels = read_npz(path, ["probabilities", "labels"], MAX_PREDICTIONS_BYTES)
        actual = f"{probabilities.dtype} {probabilities.shape} and {labels.dtype} {labels.shape}"
        n = labels.size
        if actual != f"float32 ({n}, {CLASSES}) and uint8 ({n},)" or n == 0:
            raise UsageError(f"{path}: expected float32 (N, {CLASSES}) and uint8 (N,), found {actual}.")
        in_range = (probabilities >= 0) & (probabilities <= 1.001)
        if labels.max() >= CLASSES or not in_range.all():
            raise UsageError(f"{path}: expected labels from 0 to 9 and probabilities from 0 to 1.")
        return probabilities, labels

    def write_lines(self, name: str, lines: Iterable[BaseModel]) -> None:
        """Replace a .jsonl file by these lines."""
        files.write(self.path / name, "".join(f"{line.model_dump_json()}\n" for line in lines))

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file."""
        files.write(self.path / name, json.dumps(content, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def locked_run(runs: Path, identity: Identity, timeout: float = 0.5) -> Iterator[Run]:
    """Lock the run folder of an identity, creating it if necessary, for as long as the block lasts.

    The folder is RUNS/NETWORK-AUGMENT-sSEED. If another recipe's run is there, eight digits of this recipe's digest
    are appended.

    Args:
        runs: the folder of runs.
        identity: of the run.
        timeout: seconds to wait for another process that has locked it.

    Raises:
        BusyError: another process has locked it.
        UsageError: the folder is not a run, or its recipe, data, network or format is another.
        cifar.errors.StorageError: it cannot be created.
    """
    path = folder_of(runs, identity.recipe)
    with files.locked_dir(path, timeout):
        if not (path / "recipe.json").exists():
            require_empty(path)
            files.write(path / "recipe.json", identity.model_dump_json(indent=2) + "\n")
        run = Run(path)
        differences = run.identity.differences(identity)
        if differences:
            raise UsageError(f"{path} holds another run: {'; '.join(differences)}. Nothing was changed.")
        if run.finished:  # the training may have been killed between its last file and this
            (path / "checkpoint.npz").unlink(missing_ok=True)
        yield run


def folder_of(runs: Path, recipe: Recipe) -> Path:
    """Return the folder of a recipe's run, which need not exist: as `locked_run` says."""
    plain = runs / recipe.name
    suffixed = plain.with_name(f"{plain.name}-{recipe.sha256[:8]}")
    if suffixed.exists() or _has_another_recipe(plain, recipe):
        return suffixed
    return plain


def _has_another_recipe(path: Path, recipe: Recipe) -> bool:
    """Whether a folder is a run with another recipe; a recipe.json that was edited by hand does not count."""
    if not (path / "recipe.json").exists():
        return False
    existing = Run(path).identity
    return existing.recipe != recipe and existing.recipe.sha256 == existing.recipe_sha256


def require_empty(folder: Path) -> None:
    """Raise UsageError if a folder that is to become a run holds anything but hidden files."""
    visible = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if visible:
        raise UsageError(f"{folder}: not a run folder: it holds {', '.join(visible[:3])} and no recipe.json.")


def runs_in(folder: Path) -> list[Run]:
    """Return the runs in a folder, sorted by name; the folder may be a run itself.

    Raises:
        UsageError: there is no such folder, or it contains no run.
    """
    if (folder / "recipe.json").exists():
        return [Run(folder)]
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of runs.")
    runs = [Run(path.parent) for path in sorted(folder.glob("*/recipe.json"))]
    if not runs:
        raise UsageError(f"{folder}: there is no run in it.")
    return runs
