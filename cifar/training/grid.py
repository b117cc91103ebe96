"""Training a list of recipes, one after the other."""

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
    """A recipe and its run, which is None if another process is training it."""

    recipe: Recipe
    run: Run | None

    def facts(self) -> dict[str, Any]:
        """Return the result ready for JSON."""
        names = {"network": self.recipe.network, "augment": self.recipe.policy.name, "seed": self.recipe.seed}
        if self.run is None:
            return {"path": None, **names, "status": "busy"}
        facts = {"path": str(self.run.path), **names, "status": self.run.status}
        if self.run.finished:
            facts.update(self.run.metrics.model_dump())
        return facts


def train_all(
    recipes: Sequence[Recipe], dataset: Dataset, runs: Path, make_callback: MakeCallback, note: Callable[[str], None]
) -> list[RecipeResult]:
    """Train every recipe in its folder below `runs`; a recipe that another process is training is skipped.

    A finished run is kept as it is, an interrupted one is resumed.

    Args:
        recipes: all with the same number of threads.
        dataset: whole.
        runs: the folder of run folders, created if necessary.
        make_callback: returns the Callback for a recipe and its number, counted from 1.
        note: is called with a sentence about every run that is skipped, finished already, or diverged.
    """
    by_network = {recipe.network: recipe for recipe in recipes}
    architectures = {network: loop.architecture_hash(recipe) for network, recipe in by_network.items()}
    results = []
    for number, recipe in enumerate(recipes, start=1):
        identity = Identity.of(recipe, dataset.sha256, architectures[recipe.network])
        run = None
        try:
            with locked_run(runs, identity) as run:
                if run.finished or run.diverged:
                    note(f"{run.path} is {run.status} already.")
                else:
                    _train_run(run, dataset, make_callback(recipe, number), note)
        except BusyError as error:
            note(f"{error} Skipping it.")
        results.append(RecipeResult(recipe, run))
    return results


def _train_run(
    run: Run, dataset: Dataset, callback_manager: AbstractContextManager[Callback], note: Callable[[str], None]
) -> None:
    with callback_manager as callback:
        loop.train(run, dataset, callback)
    if run.diverged:
        note(f"{run.path} diverged: {run.divergence}.")
