"""One run on disk: a folder whose facts are written once, whole, and never changed.

recipe.json       what is trained, on which data, with which network     before the first step
environment.json  where                                                  before the first step
history.jsonl     a line per epoch, the same bytes on every machine of one kind
timing.jsonl      a line per epoch: what the clock said
checkpoint.npz    everything needed to go on; gone when the run is finished
diverged.json     only if the loss stopped being a number
model.keras, predictions.npz, metrics.json                               at the end, metrics last
figures/, exports/                                                       derived, can be made again
verify.jsonl      a line per proof that was tried on it
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
from cifar.runs.schemas import FORMAT_VERSION, Epoch, Identity, Metrics, Timing, Verification
from cifar.system import files
from cifar.system.files import lock
from cifar.system.json_files import check_version, parse, read_json, read_lines

MAX_PREDICTIONS_BYTES = 64 << 20  # bytes; those of 10,000 images have 400 thousand


class Run:
    """An existing run folder.

    Args:
        path: the folder.

    Raises:
        UsageError: there is no such folder, it is not a run, or its format is a newer one.
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
        """Where it ran."""
        return read_json(self.path / "environment.json")

    def require_finished(self) -> None:
        """Raise UsageError unless the run is finished."""
        if not self.finished:
            raise UsageError(f"{self.path}: this run is {self.status}; it has no results yet.")

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
        """What the clock said of the epochs so far."""
        return read_lines(Timing, self.path / "timing.jsonl")

    @property
    def verifications(self) -> list[Verification]:
        """What `cifar verify` found, in the order in which it was tried."""
        return read_lines(Verification, self.path / "verify.jsonl")

    @property
    def finished(self) -> bool:
        """Whether the last file of a run, metrics.json, is there."""
        return (self.path / "metrics.json").is_file()

    @property
    def diverged(self) -> bool:
        """Whether its loss stopped being a number."""
        return (self.path / "diverged.json").is_file()

    @property
    def divergence(self) -> str:
        """Where and how its loss stopped being a number."""
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
        except OSError:  # a read-only place: nobody trains there
            return "interrupted"

    def predictions(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Probabilities, float32 (N, 10), and labels, uint8 (N,), of the test set, in its order.

        Raises:
            UsageError: the file is not readable, or holds anything else.
        """
        path = self.path / "predictions.npz"
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                unpacked = sum(member.file_size for member in arrays.zip.infolist())
                if unpacked > MAX_PREDICTIONS_BYTES:
                    raise ValueError(f"{unpacked:,} bytes unpacked are too many")
                probabilities, labels = arrays["probabilities"], arrays["labels"]
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
        except Exception as error:  # a damaged zip raises many kinds
            raise UsageError(f"{path}: not readable: {error}") from error
        found = f"{probabilities.dtype} {probabilities.shape} and {labels.dtype} {labels.shape}"
        n = labels.size
        if found != f"float32 ({n}, {CLASSES}) and uint8 ({n},)" or n == 0:
            raise UsageError(f"{path}: expected float32 (N, {CLASSES}) and uint8 (N,), found {found}.")
        if labels.max() >= CLASSES or not ((probabilities >= 0) & (probabilities <= 1.001)).all():
            raise UsageError(f"{path}: expected labels from 0 to 9 and probabilities from 0 to 1.")
        return probabilities, labels

    def write_lines(self, name: str, lines: Iterable[BaseModel]) -> None:
        """Write a .jsonl file anew, whole."""
        files.write(self.path / name, "".join(f"{line.model_dump_json()}\n" for line in lines))

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file, whole."""
        files.write(self.path / name, json.dumps(content, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def locked_run(runs: Path, asked: Identity) -> Iterator[Run]:
    """Hold the run folder of an identity, made where there is none, for as long as the block lasts.

    The folder is RUNS/NETWORK-AUGMENT-sSEED; where another recipe holds that, eight digits of this recipe's digest
    are added.

    Raises:
        BusyError: another process holds it.
        UsageError: the folder is not a run, or holds another recipe, data or format than was asked.
        cifar.errors.StorageError: it cannot be made.
    """
    plain = runs / asked.recipe.name
    suffixed = plain.with_name(f"{plain.name}-{asked.recipe_sha256[:8]}")
    path = suffixed if suffixed.exists() or _is_of_another_recipe(plain, asked) else plain
    with files.locked_dir(path, patience=0.5):
        if not (path / "recipe.json").exists():
            strangers = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
            if strangers:
                raise UsageError(f"{path}: not a run folder: it holds {', '.join(strangers[:3])} and no recipe.json.")
            files.write(path / "recipe.json", asked.model_dump_json(indent=2) + "\n")
        run = Run(path)
        differences = run.identity.differences(asked)
        if differences:
            raise UsageError(f"{path} holds another run: {'; '.join(differences)}. Nothing was changed.")
        if run.finished:  # a kill may have come between the last file and this
            (path / "checkpoint.npz").unlink(missing_ok=True)
        yield run


def _is_of_another_recipe(path: Path, asked: Identity) -> bool:
    """Whether a sound run with another recipe lies there. A recipe.json that was changed is not sound."""
    if not (path / "recipe.json").exists():
        return False
    held = Run(path).identity
    return held.recipe != asked.recipe and held.recipe.sha256 == held.recipe_sha256


def runs_in(folder: Path) -> list[Run]:
    """The runs in a folder, by name; the folder may be a run itself.

    Raises:
        UsageError: there is no such folder, or no run in it.
    """
    if (folder / "recipe.json").exists():
        return [Run(folder)]
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of runs.")
    runs = [Run(path.parent) for path in sorted(folder.glob("*/recipe.json"))]
    if not runs:
        raise UsageError(f"{folder}: there is no run in it.")
    return runs
