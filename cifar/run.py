"""One run on disk: a folder whose facts are written once, whole, and never changed.

recipe.json       what is trained, on which data, with which network     before the first step
environment.json  where                                                  before the first step
history.jsonl     a line per epoch, the same bytes on every machine of one kind
timing.jsonl      a line per epoch: what the clock said
checkpoint.npz    everything needed to go on; gone when the run is finished
diverged.json     only if the loss stopped being a number
model.keras, predictions.npz, metrics.json                               at the end, metrics last
figures/, exports/                                                       derived, can be made again
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import filelock
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from cifar import files
from cifar.errors import BusyError, UsageError
from cifar.recipes import Recipe

FORMAT_VERSION = 1
LARGEST_JSON = 16 << 20  # bytes; ours are thousands of times smaller

Model = TypeVar("Model", bound=BaseModel)


class Identity(BaseModel):
    """What makes two runs the same run: recipe.json.

    Attributes:
        format_version: of the whole run folder.
        recipe: what is trained.
        recipe_sha256: of the recipe as it was written; tells a changed file.
        data_sha256: digest of the whole data set.
        network_sha256: digest of the network's configuration; a user's own network can change under its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    recipe: Recipe
    recipe_sha256: str
    data_sha256: str
    network_sha256: str

    @classmethod
    def of(cls, recipe: Recipe, data_sha256: str, network_sha256: str) -> "Identity":
        """The identity of a recipe on some data."""
        return cls(
            recipe=recipe,
            recipe_sha256=recipe.sha256,
            data_sha256=data_sha256,
            network_sha256=network_sha256,
        )

    def differences(self, asked: "Identity") -> list[str]:
        """What differs from what was asked, in words."""
        ours, theirs = _flat(self), _flat(asked)
        return [
            f"{name} is {ours[name]} there, {theirs[name]} was asked" for name in ours if ours[name] != theirs[name]
        ]


def _flat(identity: Identity) -> dict[str, Any]:
    fields = identity.model_dump(exclude={"recipe", "recipe_sha256"})
    recipe = identity.recipe.model_dump()
    policy = recipe.pop("policy")
    return {
        **recipe,
        "augment": policy.pop("name"),
        **{f"augment {k}": v for k, v in policy.items()},
        **fields,
    }


class Epoch(BaseModel):
    """A line of history.jsonl. Training figures are running means over the epoch's images, None if diverged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    loss: float | None
    accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    weights_sha256: str


class Timing(BaseModel):
    """A line of timing.jsonl."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    train_seconds: float
    score_seconds: float
    images_per_second: float


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
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise UsageError(
                f"{path / 'recipe.json'}: format_version is {version!r}, this program reads {FORMAT_VERSION}."
            )
        self.identity = _parse(Identity, content, path / "recipe.json")

    @property
    def recipe(self) -> Recipe:
        """What is trained."""
        return self.identity.recipe

    @property
    def environment(self) -> dict[str, Any]:
        """Where it ran."""
        return read_json(self.path / "environment.json")

    @property
    def metrics(self) -> dict[str, Any]:
        """The final scores.

        Raises:
            UsageError: the run is not finished.
        """
        if not self.finished:
            raise UsageError(f"{self.path}: this run is {self.status}; it has no results yet.")
        return read_json(self.path / "metrics.json")

    @property
    def history(self) -> list[Epoch]:
        """The epochs so far."""
        return _read_lines(Epoch, self.path / "history.jsonl")

    @property
    def timing(self) -> list[Timing]:
        """What the clock said of the epochs so far."""
        return _read_lines(Timing, self.path / "timing.jsonl")

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
        return str(read_json(self.path / "diverged.json")["reason"])

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
        """Probabilities (N, 10) and labels (N,) of the test set, in its order."""
        path = self.path / "predictions.npz"
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                probabilities, labels = arrays["probabilities"], arrays["labels"]
        except Exception as error:  # a damaged zip raises many kinds
            raise UsageError(f"{path}: not readable: {error}") from error
        if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
            raise UsageError(f"{path}: expected (N, 10) and (N,), found {probabilities.shape} and {labels.shape}.")
        return probabilities, labels

    def write_lines(self, name: str, lines: Iterable[BaseModel]) -> None:
        """Write a .jsonl file anew, whole."""
        files.write(self.path / name, "".join(f"{line.model_dump_json()}\n" for line in lines))

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file, whole."""
        files.write(self.path / name, json.dumps(content, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def claim(runs: Path, asked: Identity) -> Iterator[Run]:
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
    with files.folder_for(path), lock(path, patience=0.5):
        files.clear_leftovers(path)
        if not (path / "recipe.json").exists():
            strangers = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
            if strangers:
                raise UsageError(f"{path}: not a run folder: it holds {', '.join(strangers[:3])} and no recipe.json.")
            files.write(path / "recipe.json", asked.model_dump_json(indent=2) + "\n")
        run = Run(path)
        differences = run.identity.differences(asked)
        if differences:
            raise UsageError(f"{path} holds another run: {'; '.join(differences)}. Nothing was changed.")
        yield run


def _is_of_another_recipe(path: Path, asked: Identity) -> bool:
    """Whether a sound run with another recipe lies there. A recipe.json that was changed is not sound."""
    if not (path / "recipe.json").exists():
        return False
    held = Run(path).identity
    return held.recipe != asked.recipe and held.recipe.sha256 == held.recipe_sha256


@contextlib.contextmanager
def lock(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a folder against other processes; the hold ends with the process, however it ends.

    Args:
        folder: an existing folder.
        patience: seconds to wait for it; whoever only looks whether it is held, holds it for a moment.

    Raises:
        BusyError: another process holds it.
    """
    try:
        with filelock.FileLock(folder / ".lock", timeout=patience, poll_interval=0.02):
            yield
    except filelock.Timeout:
        raise BusyError(f"{folder} is held by another process.") from None


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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UsageError: it is not there, too large, or not a JSON object.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise UsageError(f"{path}: {path.stat().st_size:,} bytes are too many for a file of ours.")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object, found {type(content).__name__}.")
    return content


def _read_lines(kind: type[Model], path: Path) -> list[Model]:
    if not path.exists():
        return []
    try:
        return [kind.model_validate_json(line) for line in path.read_bytes().splitlines()]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from error


def _parse(kind: type[Model], content: dict[str, Any], path: Path) -> Model:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'content'}: {problem['msg']}"
