"""Which recipes a command trains: networks, policies and seeds of a named recipe, under a profile."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel

from cifar.errors import one_of
from cifar.recipes import named
from cifar.recipes.named import RecipeFile
from cifar.recipes.schema import POLICIES, PUBLISHED, QUICK, Recipe
from cifar.system.environment import BackendName


class Profile(BaseModel):
    """A named recipe, or a part of it. None: as much as the recipe has."""

    recipe: str = PUBLISHED
    train_images: int | None = None
    batch_size: int | None = None
    epochs: int | None = None


PROFILES: dict[str, Profile] = {
    "quick": Profile(recipe=QUICK),
    "reference": Profile(),
    "smoke": Profile(train_images=10_000, batch_size=64, epochs=5),
}
"""`cifar train` trains `quick` unless told otherwise; golden runs and tests are of `smoke`."""


def recipe(
    network: str,
    augment: str,
    *,
    seed: int = 0,
    file: RecipeFile | None = None,
    profile: str = "smoke",
    epochs: int | None = None,
    fields: Mapping[str, Any] | None = None,
    dataset: Literal["cifar10", "synthetic"] = "cifar10",
    threads: int = 2,
    backend: BackendName = "tensorflow",
) -> Recipe:
    """Return the recipe of a network under a policy and a profile.

    Args:
        network: a reference network's name, or `module:function`.
        augment: a name of POLICIES.
        seed: of the recipe.
        file: the named recipe; None for the profile's.
        profile: a name of PROFILES.
        epochs: instead of the profile's.
        fields: further fields of Recipe, instead of the file's and the profile's.
        dataset: of the recipe.
        threads: of the recipe.
        backend: of the recipe.

    Raises:
        UsageError: unknown policy or profile, or a field is not valid.
    """
    part = PROFILES[one_of("profile", profile, PROFILES)]
    chosen = {**part.model_dump(exclude={"recipe"}, exclude_none=True), **(fields or {})}
    if epochs is not None:
        chosen["epochs"] = epochs
    return named.make(
        file or named.read(part.recipe),
        network=network,
        policy=POLICIES[one_of("augmentation policy", augment, POLICIES)],
        seed=seed,
        dataset=dataset,
        threads=threads,
        backend=backend,
        **chosen,
    )


def grid(networks: Iterable[str], policies: Iterable[str], seeds: Iterable[int], **settings: Any) -> list[Recipe]:
    """Return a recipe for every combination, each once: all networks and policies of a seed before the next seed.

    `cifar train` trains such a list in its order. Networks, policies and seeds that occur twice count once.

    Args:
        networks: of the recipes.
        policies: of the recipes.
        seeds: of the recipes.
        settings: the other arguments of `recipe`.

    Raises:
        UsageError: as `recipe`.
    """
    recipes = []
    combinations = itertools.product(dict.fromkeys(seeds), dict.fromkeys(networks), dict.fromkeys(policies))
    for seed, network, policy in combinations:
        recipes.append(recipe(network, policy, seed=seed, **settings))
    return recipes
