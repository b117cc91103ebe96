"""A list of recipes from start to end: trained one by one, exported together."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar import environment, exporting, fresh, manifest, training
from cifar.backends import Watch
from cifar.dataset import Dataset
from cifar.errors import BusyError
from cifar.formats import EQUAL
from cifar.recipes import Recipe
from cifar.records import Identity
from cifar.run import Run, claim

Watching = Callable[[Recipe, int], AbstractContextManager[Watch]]


@dataclass(frozen=True)
class Outcome:
    """What became of a recipe: its run, or None where another process holds it."""

    recipe: Recipe
    run: Run | None

    def facts(self) -> dict[str, Any]:
        """The outcome ready for JSON."""
        asked = {"network": self.recipe.network, "augment": self.recipe.policy.name, "seed": self.recipe.seed}
        if self.run is None:
            return {"path": None, **asked, "status": "busy"}
        scores = self.run.metrics if self.run.finished else {}
        return {"path": str(self.run.path), **asked, "status": self.run.status, **scores}


def train_all(
    recipes: Sequence[Recipe], dataset: Dataset, runs: Path, watching: Watching, note: Callable[[str], None]
) -> list[Outcome]:
    """Train every recipe in its folder below `runs`; one that another process holds is passed over.

    A finished run is kept, an interrupted one goes on.

    Args:
        recipes: all with the same number of threads.
        dataset: whole.
        runs: the folder of run folders; made where there is none.
        watching: gives the Watch for a recipe and its number, counted from 1.
        note: is told, in a sentence, what was passed over and why.
    """
    outcomes = []
    architectures = {recipe.network: training.identify(recipe) for recipe in recipes}
    for number, recipe in enumerate(recipes, start=1):
        identity = Identity.of(recipe, dataset.sha256, architectures[recipe.network])
        try:
            with claim(runs, identity) as run:
                if run.finished or run.diverged:
                    note(f"{run.path} is {run.status} already.")
                else:
                    with watching(recipe, number) as watch:
                        training.train(run, dataset, watch)
                    if run.diverged:
                        note(f"{run.path} diverged: {run.divergence}.")
        except BusyError as error:
            note(f"{error} Passed over.")
            outcomes.append(Outcome(recipe, None))
        else:
            outcomes.append(Outcome(recipe, run))
    return outcomes


def export_missing(outcomes: Sequence[Outcome], dataset: Dataset, threads: int) -> None:
    """Export every finished run that lacks one of the standard formats.

    Raises:
        ParityError: a file cannot be written or differs from the Keras model.
    """
    runs = [outcome.run for outcome in outcomes if outcome.run and outcome.run.finished]
    lacking = [run for run in runs if not _exported(run)]
    if not lacking:
        return
    if lacking[0].recipe.backend == "tensorflow":
        exporting.export(lacking, dataset, threads=threads)
        return
    fresh.call(_export_on_tensorflow, [run.path for run in lacking], dataset, threads)


def _export_on_tensorflow(runs: Sequence[Path], dataset: Dataset, threads: int) -> None:
    """Export in a process of its own what another backend has trained in this one."""
    environment.configure(threads)
    exporting.export([Run(path) for path in runs], dataset, threads=threads)


def _exported(run: Run) -> bool:
    """Whether a run's own exports hold all standard formats of its present weights."""
    folder = run.path / "exports"
    mine = manifest.of_weights(folder, run.metrics["weights_sha256"])
    return {line.format for line in mine if (folder / line.file).exists()} >= set(EQUAL)
