"""WHAT is trained: augmentation policies, recipes and profiles, all of them data."""

import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cifar.errors import one_of
from cifar.system.environment import BackendName

NETWORK_PATTERN = r"^[\w.-]+(:[\w.]+)?\Z"  # a pattern without slashes: the name becomes part of file names
MAX_EPOCHS, MAX_THREADS = 2**31 - 1, 1024
Count = Annotated[int, Field(ge=1, lt=2**31)]


class Policy(BaseModel):
    """An augmentation policy: how far each transform may go.

    Attributes:
        name: as `--augment` takes it.
        horizontal_flip: mirror left and right, for half of the images.
        vertical_flip: mirror top and bottom, for half of the images.
        shift: largest shift along each axis, as a fraction of height and width.
        rotation: largest rotation to either side, in degrees.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[\w-]+$")
    horizontal_flip: bool = False
    vertical_flip: bool = False
    shift: float = Field(0.0, ge=0, le=1)
    rotation: float = Field(0.0, ge=0, le=180)


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(name="none"),
        Policy(name="shift-flip", shift=0.1, horizontal_flip=True),
        Policy(name="flip", horizontal_flip=True),
        Policy(name="shift", shift=0.1),
        Policy(name="rotate", rotation=15.0),
        Policy(name="vertical-flip", vertical_flip=True),
        Policy(name="shift-flip-rotate", shift=0.1, horizontal_flip=True, rotation=15.0),
        Policy(name="all", shift=0.1, horizontal_flip=True, vertical_flip=True, rotation=15.0),
    )
}


class Recipe(BaseModel):
    """Everything that decides a run's weights, except the bytes of the data and the environment.

    Attributes:
        network: a reference network's name, or `module:function`.
        policy: the augmentation.
        seed: of initial weights, dropout, the order of images and the augmentation.
        dataset: which data set.
        train_images: how many training images, counted from the first; None for all.
        batch_size: images per update.
        epochs: how often every training image is seen.
        learning_rate: of RMSprop, constant (Keras's default).
        threads: of every operation. Another count gives other weights (sums are split at other places), so it is
            part of the recipe and not taken from the machine.
        backend: the Keras backend. Another backend draws other initial weights and dropout masks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", regex_engine="python-re")

    network: str = Field(pattern=NETWORK_PATTERN)
    policy: Policy
    seed: int = Field(0, ge=0, lt=2**32)
    dataset: Literal["cifar10", "synthetic"] = "cifar10"
    train_images: Count | None = None
    batch_size: Count = 128
    epochs: Count = 50
    learning_rate: float = Field(0.001, gt=0, allow_inf_nan=False)
    threads: int = Field(2, ge=1, le=MAX_THREADS)
    backend: BackendName = "tensorflow"

    @property
    def name(self) -> str:
        """NETWORK_PATTERN-AUGMENT-sSEED, the run folder's name."""
        return f"{self.network.replace(':', '.')}-{self.policy.name}-s{self.seed}"

    @property
    def sha256(self) -> str:
        """SHA-256 of the recipe's canonical JSON."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class Training(BaseModel):
    """Batch size and epochs of a network's full recipe."""

    batch_size: int = 128
    epochs: int = 50


TRAINING: dict[str, Training] = {
    "first": Training(batch_size=128, epochs=50),
    "second": Training(batch_size=64, epochs=60),
    "third": Training(batch_size=256, epochs=40),
}


class Profile(BaseModel):
    """How much of the full recipe is run. None: as much as the network's full recipe has."""

    train_images: int | None = None
    batch_size: int | None = None
    epochs: int | None = None


PROFILES: dict[str, Profile] = {
    "quick": Profile(train_images=10_000, batch_size=64, epochs=5),
    "reference": Profile(),
}


def recipe(
    network: str,
    augment: str,
    *,
    seed: int = 0,
    profile: str = "quick",
    epochs: int | None = None,
    dataset: Literal["cifar10", "synthetic"] = "cifar10",
    threads: int = 2,
    backend: BackendName = "tensorflow",
) -> Recipe:
    """Return the recipe of a network under a policy and a profile.

    Args:
        network: a reference network's name, or `module:function`.
        augment: a name of POLICIES.
        seed: of the recipe.
        profile: a name of PROFILES.
        epochs: instead of the profile's.
        dataset: of the recipe.
        threads: of the recipe.
        backend: of the recipe.

    Raises:
        UsageError: unknown policy or profile.
    """
    limits = PROFILES[one_of("profile", profile, PROFILES)]
    full = TRAINING.get(network, Training())
    if epochs is None:
        epochs = limits.epochs or full.epochs
    return Recipe(
        network=network,
        policy=POLICIES[one_of("augmentation policy", augment, POLICIES)],
        seed=seed,
        dataset=dataset,
        train_images=limits.train_images,
        batch_size=limits.batch_size or full.batch_size,
        epochs=epochs,
        threads=threads,
        backend=backend,
    )


def grid(
    networks: Iterable[str],
    policies: Iterable[str],
    seeds: Iterable[int],
    *,
    profile: str = "quick",
    epochs: int | None = None,
    dataset: Literal["cifar10", "synthetic"] = "cifar10",
    threads: int = 2,
    backend: BackendName = "tensorflow",
) -> list[Recipe]:
    """Return a recipe for every combination, each once: all networks and policies of a seed before the next seed.

    `cifar train` trains such a list in its order. Networks, policies and seeds that occur twice count once; the other
    arguments are those of `recipe`.

    Raises:
        UsageError: unknown policy or profile.
    """
    recipes = []
    combinations = itertools.product(dict.fromkeys(seeds), dict.fromkeys(networks), dict.fromkeys(policies))
    for seed, network, policy in combinations:
        recipes.append(
            recipe(
                network,
                policy,
                seed=seed,
                profile=profile,
                epochs=epochs,
                dataset=dataset,
                threads=threads,
                backend=backend,
            )
        )
    return recipes
