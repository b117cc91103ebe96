"""What `cifar compare` says: of simulated noise, of changed results, of files that are none."""

import copy
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from hypothesis import given
from hypothesis import strategies as st

from cifar.compare import compare_results, results
from cifar.compare.limits import Limits, RowLimits, read_limits
from cifar.compare.verdict import Comparison
from cifar.errors import UsageError
from cifar.metrics import classification, statistics

SEEDS = 200
ROWS, PROCESSES, SAMPLES = 14, 3, 100


def noisy(random: np.random.Generator, deviation: float, heavy: bool, slower: float = 1.0) -> list[float]:
    """A row: processes that differ, samples that do, and now and then one that something interrupted."""
    made: list[float] = []
    for _ in range(PROCESSES):
        process = deviation * (random.standard_t(3) / math.sqrt(3) if heavy else random.standard_normal())
        samples = slower * 1e-3 * np.exp(process + 0.03 * random.standard_normal(SAMPLES))
        hit = random.random(SAMPLES) < 0.03
        samples[hit] *= 1 + random.exponential(2, hit.sum())
        made += samples.tolist()
    return made


def row(name: str, samples: list[float], **facts: Any) -> dict[str, Any]:
    columns = {"kind": "inference", "threads": 1, "device": "cpu", "batch": 1, "repeats": [SAMPLES] * PROCESSES}
    return {"name": name, "extra_info": {**columns, **facts}, "stats": {"data": samples}}


MACHINE = {
    "format_version": 1,
    "packages": {"tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.4.6"},
    "cpu": {"model": "a cpu", "logical_cores": 2, "instruction_sets": ["avx2"]},
    "gpu": None,
    "settings": {"training_step": 2},
    "matrix_peak": {"1": {"flops": [1e11, 1e11]}},
}


OTHER_KEY = {"settings": {"training_step": 3}}
MODEL = {"network": "first", "augment": "none", "seed": 0, "data_sha256": "d", "n_test": 1000, "accuracy": 0.8}


def result(*rows: dict[str, Any], **machine: Any) -> dict[str, Any]:
    info = {"cifar": {**MACHINE, **machine}, "cpu": {"brand_raw": "A CPU"}}
    return copy.deepcopy({"machine_info": info, "benchmarks": list(rows)})


def compare(folder: Path, base: dict[str, Any], head: dict[str, Any], limits: Limits | None = None) -> Comparison:
    for name, content in (("base", base), ("head", head)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return compare_results(results.read(folder / "base.json"), results.read(folder / "head.json"), limits)


def words(found: Comparison, quantity: str = "time") -> dict[str, str]:
    return {verdict.row: verdict.outcome for verdict in found.verdicts if verdict.quantity == quantity}


def simulate(folder: Path, deviation: float, heavy: bool, slower: float = 1.0) -> tuple[Counter[str], int]:
    """How often each outcome was said of the slower row, and in how many comparisons another was called changed."""
    of_slower: Counter[str] = Counter()
    alarms = 0
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        sides = [
            result(*(row(str(i), noisy(random, deviation, heavy, factor if i == 0 else 1)) for i in range(ROWS)))
            for factor in (1, slower)
        ]
        said = words(compare(folder, *sides))
        of_slower[said.pop("0")] += 1
        alarms += bool({"regressed", "improved"} & set(said.values()))
    return of_slower, alarms


@pytest.mark.parametrize(("deviation", "heavy"), [(0.01, True), (0.01, False), (0.03, True), (0.10, True)])
def test_noise_alone_is_called_a_change_in_less_than_1_comparison_of_100(
    tmp_path: Path, deviation: float, heavy: bool
) -> None:
    of_slower, alarms = simulate(tmp_path, deviation, heavy)
    assert alarms + of_slower["regressed"] + of_slower["improved"] <= SEEDS // 100
    if deviation == 0.01:
        assert of_slower["unchanged"] > 0.9 * SEEDS


@pytest.mark.parametrize("heavy", [True, False])
def test_10_percent_slower_is_found_where_the_samples_allow_it(tmp_path: Path, heavy: bool) -> None:
    of_slower, _ = simulate(tmp_path, 0.01, heavy, slower=1.1)
    assert of_slower["regressed"] >= 0.9 * SEEDS


def test_10_percent_slower_in_more_noise_than_that_is_inconclusive_and_never_unchanged(tmp_path: Path) -> None:
    of_slower, _ = simulate(tmp_path, 0.10, heavy=True, slower=1.1)
    assert of_slower["inconclusive"] > 0.9 * SEEDS
    assert of_slower["unchanged"] == 0


def steady(name: str = "row", factor: float = 1.0, **facts: Any) -> dict[str, Any]:
    return row(name, noisy(np.random.default_rng(len(name)), 0.003, False, factor), **facts)


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.5, "regressed"), (1.1, "regressed"), (1.02, "unchanged"), (0.8, "improved")]
)
def test_what_a_factor_is_called(tmp_path: Path, factor: float, outcome: str) -> None:
    rows = ["a", "bb", "ccc", "dddd"]
    found = compare(tmp_path, result(*map(steady, rows)), result(*(steady(name, factor) for name in rows)))
    assert set(words(found).values()) == {outcome}


def test_a_result_against_itself_has_not_regressed(tmp_path: Path) -> None:
    mine = result(*(steady(name, weights_sha256="a", **MODEL) for name in ("a", "bb")))
    assert compare(tmp_path, mine, mine).count("unchanged") == 4


def test_a_difference_that_the_machines_own_peak_explains_is_not_told(tmp_path: Path) -> None:
    slow = {"1": {"flops": [0.9e11]}}
    rows = ["a", "bb", "ccc"]
    found = compare(
        tmp_path, result(*map(steady, rows)), result(*(steady(name, 1.1) for name in rows), matrix_peak=slow)
    )
    assert set(words(found).values()) == {"inconclusive"}
    assert found.drift == pytest.approx(1 / 0.9 - 1)


@pytest.mark.parametrize(
    ("machine", "facts", "reason"),
    [
        ({"cpu": {**MACHINE["cpu"], "model": "another"}}, {}, "the processor was a cpu, is another"),  # type: ignore[dict-item]
        ({"cpu": {**MACHINE["cpu"], "logical_cores": 4}}, {}, "the number of cores was 2, is 4"),  # type: ignore[dict-item]
        ({"gpu": {"model": "a gpu"}}, {}, "the GPU was none, is a gpu"),
        ({}, {"threads": 2}, "threads was 1, is 2"),
        ({}, {"data_sha256": "ff"}, "data_sha256 was None, is ff"),
    ],
)
def test_times_of_something_else_are_not_comparable_and_quality_decides(
    tmp_path: Path, machine: dict[str, Any], facts: dict[str, Any], reason: str
) -> None:
    base = result(steady(accuracy=0.8, n_test=10_000))
    found = compare(tmp_path, base, result(steady(factor=3, accuracy=0, n_test=10_000, **facts), **machine))
    timed, quality = (next(v for v in found.verdicts if v.quantity == name) for name in ("time", "accuracy"))
    assert (timed.outcome, timed.reason) == ("not comparable", reason)
    assert quality.outcome == "regressed"


def test_under_the_same_key_weights_and_counts_must_be_equal(tmp_path: Path) -> None:
    base = result(steady(weights_sha256="a", **MODEL))
    better = result(steady(**{"weights_sha256": "b", **MODEL, "accuracy": 0.801}))
    assert words(compare(tmp_path, base, better), "weights") == {"row": "regressed"}
    assert words(compare(tmp_path, base, better), "accuracy") == {"row": "regressed"}
    found = compare(tmp_path, base, result(*better["benchmarks"], **OTHER_KEY))
    assert words(found, "weights") == {}
    assert words(found, "accuracy") == {"row": "inconclusive"}  # 1,000 images cannot tell 0.5 points


def correct_mask(right: int, n: int, first: int = 0) -> str:
    made = np.zeros(n, bool)
    made[first : first + right] = True
    return classification.pack_mask(made)


@pytest.mark.parametrize(
    ("right", "outcome"), [(8000, "unchanged"), (7990, "unchanged"), (7900, "regressed"), (8100, "improved")]
)
def test_accuracies_are_compared_image_by_image_where_the_answers_are_there(
    tmp_path: Path, right: int, outcome: str
) -> None:
    n = 10_000
    base = steady(data_sha256="d", n_test=n, accuracy=0.8, correct_mask=correct_mask(8000, n))
    head = steady(data_sha256="d", n_test=n, accuracy=right / n, correct_mask=correct_mask(right, n))
    found = compare(tmp_path, result(base), result(head, **OTHER_KEY))
    assert words(found, "accuracy") == {"row": outcome}
    assert "paired, per image" in {verdict.reason for verdict in found.verdicts}


def test_accuracies_without_answers_need_a_larger_difference(tmp_path: Path) -> None:
    base = result(steady(n_test=10_000, accuracy=0.8))
    said = {
        accuracy: words(
            compare(tmp_path, base, result(steady(n_test=10_000, accuracy=accuracy), **OTHER_KEY)), "accuracy"
        )["row"]
        for accuracy in (0.79, 0.75)
    }
    assert said == {0.79: "inconclusive", 0.75: "regressed"}


def test_answers_that_do_not_give_the_accuracy_are_not_believed(tmp_path: Path) -> None:
    base = result(steady(data_sha256="d", n_test=1000, accuracy=0.8, correct_mask=correct_mask(800, 1000)))
    head = result(
        steady(data_sha256="d", n_test=1000, accuracy=0.0, correct_mask=correct_mask(800, 1000)), **OTHER_KEY
    )
    assert words(compare(tmp_path, base, head), "accuracy") == {"row": "regressed"}


@pytest.mark.parametrize(
    ("column", "before", "after", "outcome"),
    [
        ("file_bytes", 100, 101, "regressed"),
        ("file_bytes", 100, 99, "improved"),
        ("parameters", 5, 6, "regressed"),
        ("agreement", 0.99, 0.9899, "regressed"),
        ("agreement", 0.99, 0.99, "unchanged"),
    ],
)
def test_bytes_parameters_and_agreement_are_gated_strictly(
    tmp_path: Path, column: str, before: float, after: float, outcome: str
) -> None:
    found = compare(tmp_path, result(steady(**{column: before})), result(steady(**{column: after})))
    assert words(found, column) == {"row": outcome}


def test_a_machine_of_which_little_is_known_is_compared_as_far_as_that_goes(tmp_path: Path) -> None:
    little = result(steady(), packages={}, settings={}, cpu={})
    assert words(compare(tmp_path, little, little)) == {"row": "unchanged"}
    assert words(compare(tmp_path, result(steady()), little)) == {"row": "unchanged"}


def test_rows_that_came_or_went_are_listed(tmp_path: Path) -> None:
    found = compare(tmp_path, result(steady("a"), steady("b")), result(steady("b"), steady("c")))
    assert (found.added, found.removed) == (["c"], ["a"])


def test_limits_may_differ_by_row(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text('time = 0.5\n[rows."a*"]\ntime = 0.05\n')
    limits = read_limits(tmp_path / "limits.toml")
    rows = ["aa", "bb", "cc"]
    base, head = result(*map(steady, rows)), result(*(steady(name, 1.3) for name in rows))
    said = words(compare(tmp_path, base, head, limits))
    assert (said["aa"], said["bb"]) == ("regressed", "unchanged")
    assert limits.of("b").accuracy == RowLimits().accuracy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("time = -1", "time"),
        ("tim = 1", "tim"),
        ("time", "not TOML"),
        ("format_version = 2", "format_version"),
        (f"time = {'[' * 9_999}", "not TOML"),
    ],
    ids=["negative", "unknown", "no value", "another version", "nested without end"],
)
def test_a_limits_file_that_is_none_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "limits.toml").write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_limits(tmp_path / "limits.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_limits(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "lacks the facts"),
        ({"benchmarks": [], "machine_info": {}}, "lacks the facts"),
        ({"benchmarks": [], "machine_info": []}, "lacks the facts"),
        (result(format_version=2), "format_version is 2"),
        (result({"name": "x"}), "kind"),
        (result(steady(repeats=[50, "x"])), "repeats"),
        (result(steady(repeats=[0, 300])), "repeats"),
        (result({"extra_info": {}}), "name"),
        (result(steady(), row("x", [0.0])), "not a time"),
        (result(row("x", [math.nan])), "not a time"),
        (result(cpu=3), "cpu"),
    ],
)
def test_what_is_no_result_of_ours_is_refused(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        compare(tmp_path, content, result())


def test_the_command_line_ends_with_its_codes(cifar: Command, tmp_path: Path) -> None:
    rows = ["test_latency[a]", "test_latency[bb]", "test_latency[ccc]"]
    files = {
        "base": result(*map(steady, rows)),
        "worse": result(*(steady(name, 1.5) for name in rows)),
        "noisy": result(*(row(name, noisy(np.random.default_rng(5), 0.1, True)) for name in rows)),
        "alien": {"benchmarks": []},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert cifar("compare", "base.json", "base.json").code == 0
    worse = cifar("compare", "base.json", "worse.json", "--json", "--markdown", "verdicts.md")
    assert worse.code == 1
    assert worse.json["counts"]["regressed"] == 3
    assert "| a | " in (tmp_path / "verdicts.md").read_text()
    assert cifar("compare", "base.json", "noisy.json").code == 0
    assert cifar("compare", "base.json", "noisy.json", "--strict").code == 1
    for wrong in (("alien.json",), ("absent.json",), ("base.json", "--repeats", "3")):
        assert cifar("compare", "base.json", *wrong).code == 2
    shown = cifar("compare", "base.json", "worse.json").out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "Verdicts: 3 regressed" in shown


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_is_between_the_p_values_and_bonferroni_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = statistics.holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(p_values)) or q == pytest.approx(min(1.0, p * len(p_values)))
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(adjusted)[order]) == sorted(adjusted)


def test_the_noise_of_alike_rows_is_learnt_from_all_of_them() -> None:
    random = np.random.default_rng(1)
    alike = [(float(0.02**2 * random.chisquare(2) / 2), 2) for _ in range(200)]
    noise = statistics.estimate_noise(alike)
    assert math.sqrt(noise.variance) == pytest.approx(0.02, rel=0.1)
    assert noise.df > 20
    unlike = [(float((0.02 * math.exp(random.normal())) ** 2 * random.chisquare(2) / 2), 2) for _ in range(200)]
    assert statistics.estimate_noise(unlike).df < 4
    assert not statistics.estimate_noise([]).measured


@given(st.lists(st.booleans(), min_size=1, max_size=99))
def test_hits_survive_packing(right: list[bool]) -> None:
    packed = classification.pack_mask(np.array(right))
    assert classification.unpack_mask(packed, len(right)).tolist() == right
    with pytest.raises(ValueError, match="bits for"):
        classification.unpack_mask(packed, len(right) + 8)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: result(steady("a", accuracy=78.1)), "accuracy"),
        (lambda: result(steady("a", n_test=-2)), "n_test"),
        (lambda: result(steady("a", file_bytes=10**400)), "file_bytes"),
        (lambda: result({**steady("a"), "stats": {"data": [5e-324] * 9}}), "not a time"),
        (lambda: result(steady("a"), settings={"KERAS_BACKEND": "torch"}), "KERAS_BACKEND"),
        (lambda: result(steady("a"), matrix_peak={"1": {"flops": [-1.0]}}), "flops"),
    ],
    ids=["accuracy", "count", "size", "time", "backend", "peak"],
)
def test_a_figure_that_cannot_be_is_refused(tmp_path: Path, made: Callable[[], Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        compare(tmp_path, result(steady("a")), made())


def test_a_result_without_a_package_or_with_an_unknown_gpu_is_compared(tmp_path: Path) -> None:
    packages = {**MACHINE["packages"], "tensorflow": None}
    odd = result(steady("a"), packages=packages, device="gpu", gpu=None)
    assert words(compare(tmp_path, odd, odd)) == {"a": "unchanged"}
