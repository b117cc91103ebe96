"""A list of recipes from start to end: trained one by one, exported together."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar.data.dataset import Dataset
from cifar.errors import BusyError
from cifar.recipes import Recipe
from cifar.runs.run import Run, locked_run
from cifar.runs.schemas import Identity
from cifar.training import loop
from cifar.training.callback import Callback

MakeCallback = Callable[[Recipe, int], AbstractContextManager[Callback]]


@dataclass(frozen=True)
class RecipeResult:
    """What became of a recipe: its run, or None where another process holds it."""

    recipe: Recipe
    run: Run | None

    def facts(self) -> dict[str, Any]:
        """The outcome ready for JSON."""
        asked = {"network": self.recipe.network, "augment": self.recipe.policy.name, "seed": self.recipe.seed}
        if self.run is None:
            return {"path": None, **asked, "status": "busy"}
        scores = self.run.metrics.model_dump() if self.run.finished else {}
        return {"path": str(self.run.path), **asked, "status": self.run.status, **scores}


def train_all(
    recipes: Sequence[Recipe], dataset: Dataset, runs: Path, make_callback: MakeCallback, note: Callable[[str], None]
) -> list[RecipeResult]:
    """Train every recipe in its folder below `runs`; one that another process holds is passed over.

    A finished run is kept, an interrupted one goes on.

    Args:
        recipes: all with the same number of threads.
        dataset: whole.
        runs: the folder of run folders; made where there is none.
        make_callback: gives the Callback for a recipe and its number, counted from 1.
        note: is told, in a sentence, what was passed over and why.
    """
    outcomes = []
    architectures = {recipe.network: loop.architecture_hash(recipe) for recipe in recipes}
    for number, recipe in enumerate(recipes, start=1):
        identity = Identity.of(recipe, dataset.sha256, architectures[recipe.network])
        try:
            with locked_run(runs, identity) as run:
                if run.finished or run.diverged:
                    note(f"{run.path} is {run.status} already.")
                else:
                    with make_callback(recipe, number) as callback:
                        loop.train(run, dataset, callback)
                    if run.diverged:
                        note(f"{run.path} diverged: {run.divergence}.")
        except BusyError as error:
            note(f"{error} Passed over.")
            outcomes.append(RecipeResult(recipe, None))
        else:
            outcomes.append(RecipeResult(recipe, run))
    return outcomes
