"""What a run folder's JSON files hold, and reading them without trust."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cifar import pickles
from cifar.errors import UsageError
from cifar.recipes import Recipe

FORMAT_VERSION = 1
LARGEST_JSON = 16 << 20  # bytes; ours are thousands of times smaller

Model = TypeVar("Model", bound=BaseModel)
Count = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(ge=0, le=1e39)]  # a loss is a float32; a figure must be able to show it
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ClassName = Annotated[str, Field(pattern="^[a-z ]{1,40}$")]


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
    fields = identity.model_dump(exclude={"recipe"})
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

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epoch: Count
    loss: Size | None
    accuracy: Share | None
    test_loss: Size | None
    test_accuracy: Share | None
    weights_sha256: str


class Timing(BaseModel):
    """A line of timing.jsonl."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epoch: Count
    train_seconds: float
    score_seconds: float
    images_per_second: float


class Metrics(BaseModel):
    """The final scores of a run: metrics.json. It has gained fields within a format version: unknown ones pass.

    Attributes:
        network, augment, seed, epochs, threads: of the recipe.
        dataset, official, data_sha256: of the data; n_train, n_test: how many images of it were used.
        accuracy: correct / n_test, with its 95 % interval; the rest of the scores as in evaluation.Scores.
        per_class: accuracy by class name, in label order.
        train_accuracy_clean, train_loss_clean: on the training images as they are, after the last epoch.
        probabilities_sha256, history_sha256: of predictions.npz's probabilities and of history.jsonl.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    format_version: int
    network: str
    augment: str
    seed: Count
    epochs: Count
    dataset: Literal["cifar10", "synthetic"]
    official: bool | None
    data_sha256: Digest
    n_train: Count
    n_test: Count
    correct: Count
    accuracy: Share
    accuracy_interval: tuple[Share, Share]
    accuracy_mean_last_5_epochs: Share | None
    loss: Size
    per_class: dict[ClassName, Share] = Field(min_length=10, max_length=10)
    ece: Share
    train_accuracy_clean: Share
    train_loss_clean: Size
    parameters: Count
    weights_sha256: Digest
    probabilities_sha256: Digest
    history_sha256: Digest
    images_per_second: float
    train_seconds: float
    peak_memory_bytes: Count
    threads: Count


class Proof(BaseModel):
    """A line of verify.jsonl: one rung of proof that was tried on a run.

    Attributes:
        rung: which.
        result: `equal`, `different`, or `distance` under other conditions, where equality is not claimed.
        words: what was compared, the first difference, or how far off.
        figures: the same in numbers.
        epochs: how many were trained again; None where that is not the question.
        verified: when, ISO 8601.
        commit: of the code that verified.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    rung: str
    result: Literal["equal", "different", "distance"]
    words: str
    figures: dict[str, Any]
    epochs: int | None
    verified: str
    commit: str | None


def read_json(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON object of at most `largest` bytes.

    Raises:
        UsageError: it is not there, too large, or not a JSON object.
    """
    try:
        content = json.loads(_read_bytes(path, largest))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object, found {type(content).__name__}.")
    return content


def read_lines(kind: type[Model], path: Path) -> list[Model]:
    """Read a .jsonl file; one that is not there has no lines.

    Raises:
        UsageError: it cannot be read, is too large, or a line is not such a record.
    """
    if not path.exists():
        return []
    try:
        return [kind.model_validate_json(line) for line in _read_bytes(path).splitlines()]
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from error


def parse(kind: type[Model], content: dict[str, Any], path: Path) -> Model:
    """Make a record of a JSON object.

    Raises:
        UsageError: it is not such a record; `path` is where it stands.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from error


def check_version(content: dict[str, Any], path: Path, expected: int) -> None:
    """Raise UsageError unless a file's content, which stands at `path`, says that it is of this format version."""
    version = content.get("format_version")
    if type(version) is not int or version != expected:
        raise UsageError(f"{path}: format_version is {pickles.brief(version)}, this program reads {expected}.")


def _read_bytes(path: Path, largest: int = LARGEST_JSON) -> bytes:
    """What a file of at most `largest` bytes holds."""
    try:
        size = path.stat().st_size
        if size > largest:
            raise UsageError(f"{path}: {size:,} bytes are too many for a file of ours.")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'content'}: {problem['msg']}"
