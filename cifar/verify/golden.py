"""Golden runs: short trainings whose results are committed, so that no change alters training unnoticed.

A run's bits depend on versions, processor, settings and threads. golden.json has an entry for each such
reproducibility key under which the golden runs were trained: under it, every bit must be the same. Under another key
the loss and the accuracy must be near those of the closest entry.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cifar import recipes
from cifar.data import dataset
from cifar.recipes import Recipe
from cifar.runs.schemas import Epoch
from cifar.system import environment, files, hardware
from cifar.system.json_files import check_version, parse, read_json
from cifar.training import grid
from cifar.training.callback import Callback
from cifar.verify import first_losses
from cifar.verify.check_result import BaselineResult, DifferenceError, compare_histories

FORMAT_VERSION = 2
TABLE = Path(__file__).with_name("golden.json")
EPOCHS = 2
TOLERANCE = {1: {"loss": 0.03, "test_accuracy": 0.25}, 2: {"loss": 1.1, "test_accuracy": 0.45}}
"""By epoch, how far a correct training may end from an entry with another key.

At least twice the largest differences (loss 0.014 and 0.55, accuracy 0.12 and 0.22) that were measured with one and
three threads, with oneDNN held to AVX2 and SSE 4.1, without oneDNN, and on other processors (0.55: an Intel Xeon with
AMX). The trainings are short: the networks begin to learn in the second epoch, some sooner than others.
"""
EARLIER_FACTS = {"system": "Linux", **dict.fromkeys(environment.DECISIVE_VARIABLES, "")}
"""What was true of all entries before the reproducibility key named it."""
RUNS = (("first", "none"), ("first", "all"), ("second", "shift-flip"), ("third", "shift-flip"))


class Entry(BaseModel):
    """The golden runs under one reproducibility key.

    Attributes:
        reproducibility_key: versions, processor, settings, threads.
        cpu: the model on which they were trained.
        runs: the epochs of each, by the run's name.
        first_losses: of each, by the run's name; entries of earlier versions have none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reproducibility_key: dict[str, Any]
    cpu: str
    runs: dict[str, list[Epoch]]
    first_losses: dict[str, list[float]] = {}

    def key_differences(self, key: dict[str, Any]) -> list[str]:
        """Return a phrase for everything that differs in another reproducibility key."""
        recorded = {**EARLIER_FACTS, "cpu": self.cpu, **self.reproducibility_key}
        return environment.key_differences(recorded, key)


class Table(BaseModel):
    """golden.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    entries: list[Entry]


def reproducibility_key(threads: int) -> dict[str, Any]:
    """Return all that the bits of a training in this process depend on, beside its recipe and its data."""
    return {**environment.reproducibility_key(environment.facts(threads)), "threads": threads}


def find_closest_entry(threads: int, table: Path = TABLE) -> Entry | None:
    """Return the entry of this training step whose reproducibility key differs least from this machine's, if any.

    Raises:
        UsageError: the table cannot be read.
    """
    key = reproducibility_key(threads)
    entries = []
    for entry in _read_table(table).entries:
        if entry.reproducibility_key.get("training_step") == key["training_step"]:
            entries.append(entry)
    return min(entries, key=lambda entry: len(entry.key_differences(key)), default=None)


def train(threads: int, make_callback: Callable[[Recipe, int], AbstractContextManager[Callback]]) -> Entry:
    """Train the golden runs, which takes half a minute, and return their entry.

    Args:
        threads: with which the caller has configured TensorFlow.
        make_callback: returns the Callback for a recipe and its number, counted from 1.
    """
    golden_recipes = []
    for network, policy in RUNS:
        golden_recipes.append(recipes.recipe(network, policy, epochs=EPOCHS, dataset="synthetic", threads=threads))
    histories, losses = {}, {}

    @contextmanager
    def record_losses(recipe: Recipe, number: int) -> Iterator[Callback]:
        with make_callback(recipe, number) as callback:
            recorder = first_losses.FirstLosses(callback)
            yield recorder
        losses[recipe.name] = recorder.losses

    with tempfile.TemporaryDirectory(prefix="cifar-golden-") as scratch:
        data = dataset.draw_synthetic()
        for result in grid.train_all(golden_recipes, data, Path(scratch), record_losses, lambda _: None):
            assert result.run is not None, "no other process knows the folder"
            histories[result.recipe.name] = result.run.history
    return Entry(
        reproducibility_key=reproducibility_key(threads),
        cpu=hardware.cpu()["model"],
        runs=histories,
        first_losses=losses,
    )


def compare(golden: Entry, trained: Entry) -> BaselineResult:
    """Compare what was trained here with an entry: the bits under the same key, else losses and accuracies."""
    key_differences = golden.key_differences(trained.reproducibility_key)
    difference = find_difference(golden, trained)
    if key_differences:
        difference = find_distance(golden, trained)
    return BaselineResult([difference] if difference else [], key_differences)


def find_difference(golden: Entry, trained: Entry) -> str | None:
    """Return a sentence about the first difference of two entries with the same key; None if there is none."""
    for name, recorded in golden.runs.items():
        repeated = trained.runs.get(name, [])
        try:
            compare_histories(recorded, repeated)
        except DifferenceError as difference:
            return f"{name}, {difference} (golden on {golden.cpu})"
        if len(recorded) != len(repeated):
            return f"{name}: {len(recorded)} epochs are golden, {len(repeated)} were trained"
    return None


def find_distance(golden: Entry, trained: Entry) -> str | None:
    """Return a sentence about the first loss or accuracy that is further from a golden one than another key explains.

    Of the first batches by `first_losses.TOLERANCES`, of whole epochs by TOLERANCE.
    """
    for name, losses in golden.first_losses.items():
        distance = first_losses.find_distance(name, losses, trained.first_losses.get(name, []))
        if distance:
            return distance
    for name, recorded in golden.runs.items():
        repeated = {epoch.epoch: epoch for epoch in trained.runs.get(name, [])}
        for epoch in recorded:
            for quantity, tolerance in TOLERANCE[epoch.epoch].items():
                expected = getattr(epoch, quantity)
                value = getattr(repeated.get(epoch.epoch), quantity, None)
                if value is None or abs(value - expected) > tolerance:
                    return (
                        f"{name}, epoch {epoch.epoch}: {quantity} is {value}, {expected:.4g} on {golden.cpu}; "
                        f"other hardware changes it by no more than {tolerance}"
                    )
    return None


def add_entry(entry: Entry, table: Path = TABLE, to: Path | None = None) -> None:
    """Add an entry to the table, and remove those of an earlier training step.

    Args:
        entry: takes the place of one with the same key.
        table: is read.
        to: is written; None for the same file.

    Raises:
        UsageError: the table cannot be read.
        cifar.errors.StorageError: it cannot be written.
    """
    entries = []
    for existing in _read_table(table).entries:
        same_step = existing.reproducibility_key.get("training_step") == entry.reproducibility_key["training_step"]
        if same_step and existing.key_differences(entry.reproducibility_key):
            entries.append(existing)
    content = Table(format_version=FORMAT_VERSION, entries=[*entries, entry]).model_dump()
    files.write(to or table, json.dumps(content, indent=1) + "\n")


def _read_table(table: Path) -> Table:
    if not table.exists():
        return Table(format_version=FORMAT_VERSION, entries=[])
    content = read_json(table)
    check_version(content, table, FORMAT_VERSION)
    return parse(Table, content, table)
