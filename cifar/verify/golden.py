"""Golden runs: short trainings whose results are committed, so that no change alters training unnoticed.

The bits depend on versions, instruction sets, settings and threads; the table has an entry for each such key that
somebody has measured.
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
from cifar.verify.result import DifferenceError, compare_lines

FORMAT_VERSION = 1
TABLE = Path(__file__).with_name("golden.json")
EPOCHS = 2
RUNS = (("first", "none"), ("first", "all"), ("second", "shift-flip"), ("third", "shift-flip"))


class Entry(BaseModel):
    """What the golden runs gave under one key.

    Attributes:
        key: versions, instruction sets, settings, threads: what decides the bits.
        cpu: the model they were made on; it decides nothing as far as we know.
        runs: the epochs of each, by the run's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: dict[str, Any]
    cpu: str
    runs: dict[str, list[Epoch]]


class Table(BaseModel):
    """golden.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    entries: list[Entry]


def key(threads: int) -> dict[str, Any]:
    """What decides the bits of a training here."""
    here = environment.facts(threads)
    return {**environment.key(here), "architecture": here["cpu"]["architecture"], "threads": threads}


def find(threads: int, table: Path = TABLE) -> Entry | None:
    """The entry for this machine; None where nobody has measured it.

    Raises:
        UsageError: the table cannot be read.
    """
    here = key(threads)
    return next((entry for entry in _read(table).entries if entry.key == here), None)


def measure(threads: int, make_callback: Callable[[Recipe, int], AbstractContextManager[Callback]]) -> Entry:
    """Train the golden runs here; takes half a minute."""
    wanted = [
        recipes.recipe(network, policy, epochs=EPOCHS, dataset="synthetic", threads=threads)
        for network, policy in RUNS
    ]
    with tempfile.TemporaryDirectory(prefix="cifar-golden-") as scratch:
        made = sweep.train_all(wanted, dataset.draw_synthetic(), Path(scratch), make_callback, lambda _: None)
        histories = {outcome.recipe.name: outcome.run.history for outcome in made if outcome.run}
    return Entry(key=key(threads), cpu=hardware.cpu()["model"], runs=histories)


def difference(golden: Entry, made: Entry) -> str | None:
    """The first difference of two entries for the same key, in words; None if there is none."""
    for name, lines in golden.runs.items():
        try:
            for recorded, line in zip(lines, made.runs.get(name, []), strict=True):
                compare_lines(recorded, line)
        except DifferenceError as found:
            return f"{name}, {found} (golden on {golden.cpu})"
        except ValueError:
            return f"{name}: {len(lines)} epochs are golden, {len(made.runs.get(name, []))} were trained"
    return None


def add(entry: Entry, table: Path = TABLE) -> None:
    """Add an entry to the table; entries of an earlier training step go.

    Raises:
        UsageError: the table cannot be read.
        cifar.errors.StorageError: it cannot be written.
    """
    step = entry.key["training_step"]
    kept = [old for old in _read(table).entries if old.key != entry.key and old.key.get("training_step") == step]
    made = Table(format_version=FORMAT_VERSION, entries=[*kept, entry])
    files.write(table, json.dumps(made.model_dump(), indent=1) + "\n")


def _read(table: Path) -> Table:
    if not table.exists():
        return Table(format_version=FORMAT_VERSION, entries=[])
    content = read_json(table)
    check_version(content, table, FORMAT_VERSION)
    return parse(Table, content, table)
