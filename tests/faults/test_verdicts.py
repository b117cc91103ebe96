"""Damaged benchmark results: `cifar compare` gives verdicts or one sentence."""

import copy
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.benchmark_results import benchmark_result, steady_row

from cifar.compare import benchmark_results, compare_results
from cifar.errors import CifarError
from cifar.report import comparison_tables
from faults.conftest import Count, Tally

VALUES = (None, 0, -1, 1e308, math.nan, 10**400, "x", "", [], {}, [1], {"a": 1}, True, "9" * 50)
COLUMNS: dict[str, Any] = {
    "network": "first",
    "augment": "none",
    "seed": 0,
    "data_sha256": "d",
    "weights_sha256": "w",
    "n_test": 1000,
    "accuracy": 0.8,
    "agreement": 1.0,
    "file_bytes": 100,
    "parameters": 10,
    "correct_mask": "AAAA",
}


def places(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every part of a JSON value; of a list, to its first three entries."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in pairs:
        yield (*so_far, key)
        yield from places(part, (*so_far, key))


def damaged(sound: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A copy with one part missing or replaced."""
    damaged_copy = copy.deepcopy(sound)
    *path, last = chance.choice(list(places(sound)))
    holder: Any = damaged_copy
    for key in path:
        holder = holder[key]
    if chance.random() < 0.3:
        del holder[last]
    else:
        holder[last] = chance.choice(VALUES)
    return damaged_copy


def test_a_damaged_result_is_compared_or_refused_in_a_sentence(tmp_path: Path, count: Count, tally: Tally) -> None:
    sound = benchmark_result(*(steady_row(name, **COLUMNS) for name in ("a", "bb", "ccc")))
    (tmp_path / "sound.json").write_text(json.dumps(sound))
    base = benchmark_results.read(tmp_path / "sound.json")
    for seed in range(count(200, 2000)):
        (tmp_path / "damaged.json").write_text(json.dumps(damaged(sound, random.Random(seed))))
        try:
            head = benchmark_results.read(tmp_path / "damaged.json")
            for pair in ((base, head), (head, base), (head, head)):
                comparison = compare_results(*pair)
                comparison_tables.markdown(comparison)
                json.dumps(comparison.facts())
            tally("damaged benchmark results compared")
        except CifarError:
            tally("damaged benchmark results refused")
