"""The contents of a run folder's JSON files."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cifar.recipes import Recipe
from cifar.system.json_files import Count, Share, Size

FORMAT_VERSION = 1  # of a run folder
VERIFICATION_FORMAT_VERSION = 2  # of its verify.jsonl

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ClassName = Annotated[str, Field(pattern="^[a-z ]{1,40}$")]


class Identity(BaseModel):
    """What two runs have in common if they are the same run: recipe.json.

    Attributes:
        format_version: of the whole run folder.
        recipe: what is trained.
        recipe_sha256: of the recipe when it was written; shows whether the file was edited since.
        data_sha256: digest of the whole data set.
        network_sha256: digest of the network's configuration; a user's own network can change under the same name.
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

    def differences(self, requested: "Identity") -> list[str]:
        """Return a phrase for every field that differs in the requested identity."""
        differences = []
        requested_fields = requested._flat_fields()
        for name, value in self._flat_fields().items():
            if value != requested_fields[name]:
                differences.append(f"{name} is {value} there, {requested_fields[name]} was requested")
        return differences

    def _flat_fields(self) -> dict[str, Any]:
        """Return all fields, with those of the recipe and its policy, under the names that people read."""
        recipe = self.recipe.model_dump()
        policy = recipe.pop("policy")
        fields = {**recipe, "augment": policy.pop("name")}
        for name, value in policy.items():
            fields[f"augment {name}"] = value
        return {**fields, **self.model_dump(exclude={"recipe"})}


class Epoch(BaseModel):
    """A line of history.jsonl; loss and accuracy are running means over the epoch's images. None if diverged."""

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
        hold_out: if not 0, the scores are those of so many held-out training images, and n_test is their number.
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
    hold_out: Count = 0
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


class Verification(BaseModel):
    """A line of verify.jsonl: one check of `cifar verify` and its result.

    Attributes:
        check: its name.
        result: `equal`, `different`, or `distance` if the environment differs, so that equality is not expected.
        message: what was compared, the first difference, or the distance, in a sentence.
        figures: the same in numbers.
        epochs: how many were trained again; None where the check trains none.
        verified: when, ISO 8601.
        commit: of the code that ran the check.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = VERIFICATION_FORMAT_VERSION
    check: str
    result: Literal["equal", "different", "distance"]
    message: str
    figures: dict[str, Any]
    epochs: int | None
    verified: str
    commit: str | None
