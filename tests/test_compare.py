"""`cifar compare`: simulated noise, changed results, and files that are not benchmark results."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.benchmark_results import MACHINE, benchmark_result, benchmark_row, noisy_samples, steady_row
from helpers.in_process import run_cli

from cifar.compare import benchmark_results, compare_results
from cifar.compare.limits import Limits, RowLimits, read_limits
from cifar.compare.verdict import Comparison
from cifar.errors import UsageError
from cifar.metrics import classification

SEEDS = 200
ROWS = 14
OTHER_KEY = {"settings": {"training_step": 3}}
MODEL = {"network": "first", "augment": "none", "seed": 0, "data_sha256": "d", "n_test": 1000, "accuracy": 0.8}


def compare(folder: Path, base: dict[str, Any], head: dict[str, Any], limits: Limits | None = None) -> Comparison:
    for name, content in (("base", base), ("head", head)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return compare_results(
        benchmark_results.read(folder / "base.json"), benchmark_results.read(folder / "head.json"), limits
    )


def outcomes(comparison: Comparison, quantity: str = "time") -> dict[str, str]:
    return {verdict.row: verdict.outcome for verdict in comparison.verdicts if verdict.quantity == quantity}


def simulated_result(
    random: np.random.Generator, deviation: float, heavy: bool, factor: float = 1.0
) -> dict[str, Any]:
    """A result of noisy rows; the times of row "0" are multiplied by `factor`."""
    rows = []
    for number in range(ROWS):
        samples = noisy_samples(random, deviation, heavy, factor if number == 0 else 1.0)
        rows.append(benchmark_row(str(number), samples))
    return benchmark_result(*rows)


def simulate(folder: Path, deviation: float, heavy: bool, factor: float = 1.0) -> tuple[Counter[str], int]:
    """How often each outcome is given to the row with the factor, and the number of comparisons with false alarms."""
    outcomes_of_row: Counter[str] = Counter()
    false_alarms = 0
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        base = simulated_result(random, deviation, heavy)
        head = simulated_result(random, deviation, heavy, factor)
        outcome_by_row = outcomes(compare(folder, base, head))
        outcomes_of_row[outcome_by_row.pop("0")] += 1
        if {"regressed", "improved"} & set(outcome_by_row.values()):
            false_alarms += 1
    return outcomes_of_row, false_alarms


@pytest.mark.parametrize(("deviation", "heavy"), [(0.01, True), (0.01, False), (0.03, True), (0.10, True)])
def test_noise_alone_is_called_a_change_in_less_than_1_comparison_of_100(
    tmp_path: Path, deviation: float, heavy: bool
) -> None:
    of_row, false_alarms = simulate(tmp_path, deviation, heavy)
    assert false_alarms + of_row["regressed"] + of_row["improved"] <= SEEDS // 100
    if deviation == 0.01:
        assert of_row["unchanged"] > 0.9 * SEEDS


@pytest.mark.parametrize("heavy", [True, False])
def test_10_percent_slower_is_detected_where_the_samples_allow_it(tmp_path: Path, heavy: bool) -> None:
    of_row, _ = simulate(tmp_path, 0.01, heavy, factor=1.1)
    assert of_row["regressed"] >= 0.9 * SEEDS


def test_10_percent_slower_in_more_noise_than_that_is_inconclusive_and_never_unchanged(tmp_path: Path) -> None:
    of_row, _ = simulate(tmp_path, 0.10, heavy=True, factor=1.1)
    assert of_row["inconclusive"] > 0.9 * SEEDS
    assert of_row["unchanged"] == 0


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.5, "regressed"), (1.1, "regressed"), (1.02, "unchanged"), (0.8, "improved")]
)
def test_the_outcome_of_a_factor(tmp_path: Path, factor: float, outcome: str) -> None:
    rows = ["a", "bb", "ccc", "dddd"]
    comparison = compare(
        tmp_path,
        benchmark_result(*map(steady_row, rows)),
        benchmark_result(*(steady_row(name, factor) for name in rows)),
    )
    assert set(outcomes(comparison).values()) == {outcome}


def test_a_result_against_itself_has_not_regressed(tmp_path: Path) -> None:
    result = benchmark_result(*(steady_row(name, weights_sha256="a", **MODEL) for name in ("a", "bb")))
    assert compare(tmp_path, result, result).count("unchanged") == 4


def test_a_difference_that_the_machines_own_peak_explains_is_inconclusive(tmp_path: Path) -> None:
    slow = {"1": {"flops": [0.9e11]}}
    rows = ["a", "bb", "ccc"]
    comparison = compare(
        tmp_path,
        benchmark_result(*map(steady_row, rows)),
        benchmark_result(*(steady_row(name, 1.1) for name in rows), matrix_peak=slow),
    )
    assert set(outcomes(comparison).values()) == {"inconclusive"}
    assert comparison.drift == pytest.approx(1 / 0.9 - 1)


@pytest.mark.parametrize(
    ("machine", "facts", "reason"),
    [
        ({"cpu": {**MACHINE["cpu"], "model": "another"}}, {}, "the processor was a cpu, is another"),
        ({"cpu": {**MACHINE["cpu"], "logical_cores": 4}}, {}, "the number of cores was 2, is 4"),
        ({"gpu": {"model": "a gpu"}}, {}, "the GPU was none, is a gpu"),
        ({}, {"threads": 2}, "threads was 1, is 2"),
        ({}, {"data_sha256": "ff"}, "data_sha256 was None, is ff"),
    ],
)
def test_times_of_something_else_are_not_comparable_and_quality_decides(
    tmp_path: Path, machine: dict[str, Any], facts: dict[str, Any], reason: str
) -> None:
    base = benchmark_result(steady_row(accuracy=0.8, n_test=10_000))
    comparison = compare(
        tmp_path, base, benchmark_result(steady_row(factor=3, accuracy=0, n_test=10_000, **facts), **machine)
    )
    timed, quality = (next(v for v in comparison.verdicts if v.quantity == name) for name in ("time", "accuracy"))
    assert (timed.outcome, timed.reason) == ("not comparable", reason)
    assert quality.outcome == "regressed"


def test_under_the_same_key_weights_and_counts_must_be_equal(tmp_path: Path) -> None:
    base = benchmark_result(steady_row(weights_sha256="a", **MODEL))
    better = benchmark_result(steady_row(**{"weights_sha256": "b", **MODEL, "accuracy": 0.801}))
    assert outcomes(compare(tmp_path, base, better), "weights") == {"row": "regressed"}
    assert outcomes(compare(tmp_path, base, better), "accuracy") == {"row": "regressed"}
    comparison = compare(tmp_path, base, benchmark_result(*better["benchmarks"], **OTHER_KEY))
    assert outcomes(comparison, "weights") == {}
    assert outcomes(comparison, "accuracy") == {"row": "inconclusive"}  # 1,000 images cannot tell 0.5 points


def correct_mask(right: int, n: int, first: int = 0) -> str:
    mask = np.zeros(n, bool)
    mask[first : first + right] = True
    return classification.pack_mask(mask)


@pytest.mark.parametrize(
    ("right", "outcome"), [(8000, "unchanged"), (7990, "unchanged"), (7900, "regressed"), (8100, "improved")]
)
def test_accuracies_are_compared_image_by_image_where_the_correct_masks_are_stored(
    tmp_path: Path, right: int, outcome: str
) -> None:
    n = 10_000
    base = steady_row(data_sha256="d", n_test=n, accuracy=0.8, correct_mask=correct_mask(8000, n))
    head = steady_row(data_sha256="d", n_test=n, accuracy=right / n, correct_mask=correct_mask(right, n))
    comparison = compare(tmp_path, benchmark_result(base), benchmark_result(head, **OTHER_KEY))
    assert outcomes(comparison, "accuracy") == {"row": outcome}
    assert "paired, per image" in {verdict.reason for verdict in comparison.verdicts}


def test_accuracies_without_correct_masks_need_a_larger_difference(tmp_path: Path) -> None:
    base = benchmark_result(steady_row(n_test=10_000, accuracy=0.8))
    for accuracy, outcome in {0.79: "inconclusive", 0.75: "regressed"}.items():
        head = benchmark_result(steady_row(n_test=10_000, accuracy=accuracy), **OTHER_KEY)
        assert outcomes(compare(tmp_path, base, head), "accuracy") == {"row": outcome}


def test_a_correct_mask_that_contradicts_the_accuracy_is_ignored(tmp_path: Path) -> None:
    base = benchmark_result(
        steady_row(data_sha256="d", n_test=1000, accuracy=0.8, correct_mask=correct_mask(800, 1000))
    )
    head = benchmark_result(
        steady_row(data_sha256="d", n_test=1000, accuracy=0.0, correct_mask=correct_mask(800, 1000)), **OTHER_KEY
    )
    assert outcomes(compare(tmp_path, base, head), "accuracy") == {"row": "regressed"}


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
    comparison = compare(
        tmp_path, benchmark_result(steady_row(**{column: before})), benchmark_result(steady_row(**{column: after}))
    )
    assert outcomes(comparison, column) == {"row": outcome}


def test_a_machine_of_which_little_is_known_is_compared_as_far_as_that_goes(tmp_path: Path) -> None:
    little = benchmark_result(steady_row(), packages={}, settings={}, cpu={})
    assert outcomes(compare(tmp_path, little, little)) == {"row": "unchanged"}
    assert outcomes(compare(tmp_path, benchmark_result(steady_row()), little)) == {"row": "unchanged"}


def test_rows_that_came_or_went_are_listed(tmp_path: Path) -> None:
    comparison = compare(
        tmp_path,
        benchmark_result(steady_row("a"), steady_row("b")),
        benchmark_result(steady_row("b"), steady_row("c")),
    )
    assert (comparison.added, comparison.removed) == (["c"], ["a"])


def test_limits_may_differ_by_row(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text('time = 0.5\n[rows."a*"]\ntime = 0.05\n')
    limits = read_limits(tmp_path / "limits.toml")
    rows = ["aa", "bb", "cc"]
    base, head = benchmark_result(*map(steady_row, rows)), benchmark_result(*(steady_row(name, 1.3) for name in rows))
    outcome_by_row = outcomes(compare(tmp_path, base, head, limits))
    assert (outcome_by_row["aa"], outcome_by_row["bb"]) == ("regressed", "unchanged")
    assert limits.for_row("b").accuracy == RowLimits().accuracy


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
def test_an_invalid_limits_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
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
        (benchmark_result(format_version=1), "format_version is 1, this program reads 2"),
        (benchmark_result({"name": "x"}), "kind"),
        (benchmark_result(steady_row(repeats=[50, "x"])), "repeats"),
        (benchmark_result(steady_row(repeats=[0, 300])), "repeats"),
        (benchmark_result({"extra_info": {}}), "name"),
        (benchmark_result(steady_row(), benchmark_row("x", [0.0])), "not a time"),
        (benchmark_result(benchmark_row("x", [math.nan])), "not a time"),
        (benchmark_result(cpu=3), "cpu"),
    ],
)
def test_what_is_not_a_benchmark_result_is_refused(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        compare(tmp_path, content, benchmark_result())


def test_the_command_line_ends_with_its_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["test_latency[a]", "test_latency[bb]", "test_latency[ccc]"]
    noisy = noisy_samples(np.random.default_rng(5), 0.1, heavy=True)
    files = {
        "base": benchmark_result(*map(steady_row, rows)),
        "worse": benchmark_result(*(steady_row(name, 1.5) for name in rows)),
        "noisy": benchmark_result(*(benchmark_row(name, noisy) for name in rows)),
        "invalid": {"benchmarks": []},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert run_cli(["compare", "base.json", "base.json"]).code == 0
    worse = run_cli(["compare", "base.json", "worse.json", "--json", "--markdown", "verdicts.md"])
    assert worse.code == 1
    assert worse.json["format_version"] == 2
    assert worse.json["counts"]["regressed"] == 3
    assert {verdict["outcome"] for verdict in worse.json["verdicts"]} == {"regressed"}
    assert "| a | " in (tmp_path / "verdicts.md").read_text()
    assert run_cli(["compare", "base.json", "noisy.json"]).code == 0
    assert run_cli(["compare", "base.json", "noisy.json", "--strict"]).code == 1
    for wrong in (["invalid.json"], ["absent.json"], ["base.json", "--repeats", "3"]):
        assert run_cli(["compare", "base.json", *wrong]).code == 2
    shown = run_cli(["compare", "base.json", "worse.json"]).out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "Verdicts: 3 regressed" in shown


@pytest.mark.parametrize(
    ("make_head", "reason"),
    [
        (lambda: benchmark_result(steady_row("a", accuracy=78.1)), "accuracy"),
        (lambda: benchmark_result(steady_row("a", n_test=-2)), "n_test"),
        (lambda: benchmark_result(steady_row("a", file_bytes=10**400)), "file_bytes"),
        (lambda: benchmark_result({**steady_row("a"), "stats": {"data": [5e-324] * 9}}), "not a time"),
        (lambda: benchmark_result(steady_row("a"), settings={"KERAS_BACKEND": "torch"}), "KERAS_BACKEND"),
        (lambda: benchmark_result(steady_row("a"), matrix_peak={"1": {"flops": [-1.0]}}), "flops"),
    ],
    ids=["accuracy", "count", "size", "time", "backend", "peak"],
)
def test_an_impossible_figure_is_refused(tmp_path: Path, make_head: Callable[[], Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        compare(tmp_path, benchmark_result(steady_row("a")), make_head())


def test_a_result_without_a_package_or_with_an_unknown_gpu_is_compared(tmp_path: Path) -> None:
    packages = {**MACHINE["packages"], "tensorflow": None}
    odd = benchmark_result(steady_row("a"), packages=packages, device="gpu", gpu=None)
    assert outcomes(compare(tmp_path, odd, odd)) == {"a": "unchanged"}
