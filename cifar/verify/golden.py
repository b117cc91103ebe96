"""Golden runs: short trainings whose results are committed, so that no change alters training unnoticed.

A run's bits depend on versions, instruction sets, settings and threads. golden.json has an entry for each such
reproducibility key under which the golden runs were trained.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cifar import recipes
from cifar.data import dataset
from cifar.recipes import Recipe
from cifar.runs.schemas import Epoch
from cifar.system import environment, files, hardware
from cifar.system.json_files import check_version, parse, read_json
from cifar.training import sweep
from cifar.training.callback import Callback
from cifar.verify.check_result import DifferenceError, compare_histories

FORMAT_VERSION = 2
TABLE = Path(__file__).with_name("golden.json")
EPOCHS = 2
RUNS = (("first", "none"), ("first", "all"), ("second", "shift-flip"), ("third", "shift-flip"))


class Entry(BaseModel):
    """The golden runs under one reproducibility key.

    Attributes:
        reproducibility_key: versions, instruction sets, settings, threads.
        cpu: the model on which they were trained; as far as we know, no bit depends on it.
        runs: the epochs of each, by the run's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reproducibility_key: dict[str, Any]
    cpu: str
    runs: dict[str, list[Epoch]]


class Table(BaseModel):
    """golden.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    entries: list[Entry]


def reproducibility_key(threads: int) -> dict[str, Any]:
    """Return all that the bits of a training in this process depend on, beside its recipe and its data."""
    facts = environment.facts(threads)
    key = environment.reproducibility_key(facts)
    return {**key, "architecture": facts["cpu"]["architecture"], "threads": threads}


def find_entry(threads: int, table: Path = TABLE) -> Entry | None:
    """Return the entry for this machine; None if there is none.

    Raises:
        UsageError: the table cannot be read.
    """
    key = reproducibility_key(threads)
    for entry in _read_table(table).entries:
        if entry.reproducibility_key == key:
            return entry
    return None


def train(threads: int, make_callback: Callable[[Recipe, int], AbstractContextManager[Callback]]) -> Entry:
    """Train the golden runs, which takes half a minute, and return their entry.

    Args:
        threads: with which the caller has configured TensorFlow.
        make_callback: returns the Callback for a recipe and its number, counted from 1.
    """
    golden_recipes = []
    for network, policy in RUNS:
        golden_recipes.append(recipes.recipe(network, policy, epochs=EPOCHS, dataset="synthetic", threads=threads))
    histories = {}
    with tempfile.TemporaryDirectory(prefix="cifar-golden-") as scratch:
        data = dataset.draw_synthetic()
        for result in sweep.train_all(golden_recipes, data, Path(scratch), make_callback, lambda _: None):
            assert result.run is not None, "no other process knows the folder"
            histories[result.recipe.name] = result.run.history
    return Entry(reproducibility_key=reproducibility_key(threads), cpu=hardware.cpu()["model"], runs=histories)


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


def add_entry(entry: Entry, table: Path = TABLE) -> None:
    """Add an entry to the table, and remove those of an earlier training step.

    Raises:
        UsageError: the table cannot be read.
        cifar.errors.StorageError: it cannot be written.
    """
    entries = []
    for existing in _read_table(table).entries:
        same_step = existing.reproducibility_key.get("training_step") == entry.reproducibility_key["training_step"]
        if same_step and existing.reproducibility_key != entry.reproducibility_key:
            entries.append(existing)
    content = Table(format_version=FORMAT_VERSION, entries=[*entries, entry]).model_dump()
    files.write(table, json.dumps(content, indent=1) + "\n")


def _read_table(table: Path) -> Table:
    if not table.exists():
        return Table(format_version=FORMAT_VERSION, entries=[])
    content = read_json(table)
    check_version(content, table, FORMAT_VERSION)
    return parse(Table, content, table)
