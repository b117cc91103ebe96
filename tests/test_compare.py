"""`cifar compare`: simulated noise, changed results, and files that are not benchmark results."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from helpers.benchmark_results import (
    MACHINE,
    PROCESSES,
    SAMPLES,
    benchmark_result,
    benchmark_row,
    noisy_samples,
    steady_row,
)
from helpers.in_process import run_cli

from cifar.compare import compare_results, sessions
from cifar.compare.benchmark_results import BenchmarkResult, BenchmarkRow, Columns, Machine
from cifar.compare.limits import Limits, RowLimits, read_limits
from cifar.compare.verdict import Comparison
from cifar.errors import UsageError
from cifar.metrics import classification
from cifar.report import comparison_tables

SEEDS = 200
ROWS = 14
OTHER_KEY = {"settings": {"training_step": 1}}
MODEL = {"network": "first", "augment": "none", "seed": 0, "data_sha256": "d", "n_test": 1000, "accuracy": 0.8}


def write_sessions(folder: Path, content: dict[str, Any], count: int) -> Path:
    """A folder with sessions that agree with each other."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.json").write_text(json.dumps(content))
    return folder


def compare(
    folder: Path, base: dict[str, Any], head: dict[str, Any], limits: Limits | None = None, count: int = 3
) -> Comparison:
    """Compare two results, each of some sessions that agree with each other."""
    before, after = (write_sessions(folder / name, content, count) for name, content in (("b", base), ("h", head)))
    return compare_results(sessions.read(before), sessions.read(after), limits)


def outcomes(comparison: Comparison, quantity: str = "time") -> dict[str, str]:
    return {verdict.row: verdict.outcome for verdict in comparison.verdicts if verdict.quantity == quantity}


@dataclass(frozen=True)
class Simulated:
    """How results are made up.

    Attributes:
        processes: standard deviation of the logarithm of a process's times.
        session: standard deviation of what a session does to the logarithm of a row's times, whatever the process.
        sessions: of the base, and of the head.
        heavy: whether both have heavy tails.
        factor: by which row "0" of the head is slower.
    """

    processes: float = 0.01
    session: float = 0.0
    sessions: tuple[int, int] = (1, 1)
    heavy: bool = True
    factor: float = 1.0

    def result(self, random: np.random.Generator, sessions: int, factor: float) -> BenchmarkResult:
        """A result of some sessions; the times of row "0" are multiplied by `factor`."""
        columns = Columns(kind="inference", threads=1, device="cpu", batch=1, repeats=[SAMPLES] * PROCESSES)
        rows = {}
        for number in range(ROWS):
            samples = []
            for _ in range(sessions):
                effect = random.standard_t(3) / math.sqrt(3) if self.heavy else random.standard_normal()
                times = noisy_samples(random, self.processes, self.heavy, math.exp(self.session * effect))
                samples.append(np.array(times) * (factor if number == 0 else 1.0))
            rows[str(number)] = BenchmarkRow(str(number), columns, samples)
        return BenchmarkResult(Path("simulated"), Machine.model_validate(MACHINE), "A CPU", rows)


def simulate(case: Simulated) -> tuple[Counter[str], int]:
    """How often each outcome is given to the row with the factor, and the number of comparisons with false alarms."""
    outcomes_of_row: Counter[str] = Counter()
    false_alarms = 0
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        base = case.result(random, case.sessions[0], 1.0)
        head = case.result(random, case.sessions[1], case.factor)
        outcome_by_row = outcomes(compare_results(base, head))
        outcomes_of_row[outcome_by_row["0"]] += 1
        if case.factor != 1:
            del outcome_by_row["0"]
        if {"regressed", "improved"} & set(outcome_by_row.values()):
            false_alarms += 1
    print(f"{case}: false alarms in {false_alarms / SEEDS:.1%} of comparisons; row 0: {dict(outcomes_of_row)}")
    return outcomes_of_row, false_alarms


def documented(case: Simulated, false_alarms: int) -> bool:
    """Whether the documents state a simulated rate; of processes that vary by 1 %."""
    tails = "heavy" if case.heavy else "normal"
    base, head = case.sessions
    row = f"| {base}, {head} | {case.session:.0%} | {tails} | {100 * false_alarms / SEEDS:g}% |".replace("%", " %")
    return case.processes != 0.01 or row in (ROOT / "docs" / "benchmarks.md").read_text()


@pytest.mark.parametrize(
    "case",
    [
        Simulated(session=0.02),
        Simulated(session=0.03),
        Simulated(session=0.03, heavy=False),
        Simulated(session=0.05, heavy=False),
        Simulated(processes=0.10),
        Simulated(session=0.02, sessions=(3, 3)),
        Simulated(session=0.05, sessions=(3, 3), heavy=False),
        Simulated(session=0.03, sessions=(5, 5)),
    ],
    ids=str,
)
def test_equal_code_is_called_changed_in_no_more_than_1_comparison_of_100(case: Simulated) -> None:
    _, false_alarms = simulate(case)
    assert false_alarms <= SEEDS // 100
    assert documented(case, false_alarms)


@pytest.mark.parametrize("case", [Simulated(session=0.05), Simulated(session=0.03, sessions=(5, 1))], ids=str)
def test_heavy_tails_of_a_single_session_are_called_a_change_in_no_more_than_8_comparisons_of_100(
    case: Simulated,
) -> None:
    _, false_alarms = simulate(case)
    assert false_alarms <= 8 * SEEDS // 100
    assert documented(case, false_alarms)


@pytest.mark.parametrize("heavy", [True, False])
def test_10_percent_slower_is_detected_by_three_sessions_of_each(heavy: bool) -> None:
    of_row, _ = simulate(Simulated(session=0.01, sessions=(3, 3), heavy=heavy, factor=1.1))
    assert of_row["regressed"] >= 0.9 * SEEDS


def test_no_change_is_unchanged_by_five_sessions_of_each() -> None:
    of_row, _ = simulate(Simulated(session=0.01, sessions=(5, 5)))
    assert of_row["unchanged"] > 0.9 * SEEDS


@pytest.mark.parametrize("case", [Simulated(factor=1.1), Simulated(processes=0.10, factor=1.1)], ids=str)
def test_10_percent_slower_in_one_session_or_in_more_noise_is_inconclusive_and_never_unchanged(
    case: Simulated,
) -> None:
    of_row, _ = simulate(case)
    assert of_row["inconclusive"] > 0.9 * SEEDS
    assert of_row["unchanged"] == 0


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.5, "regressed"), (1.1, "inconclusive"), (1.0, "inconclusive"), (0.6, "improved")]
)
def test_one_session_of_each_tells_only_what_no_session_does(tmp_path: Path, factor: float, outcome: str) -> None:
    base, head = benchmark_result(steady_row()), benchmark_result(steady_row(factor=factor))
    comparison = compare(tmp_path, base, head, count=1)
    assert outcomes(comparison) == {"row": outcome}
    assert "assumed for one session of each" in comparison_tables.markdown(comparison)
    assert "measured between sessions" in comparison_tables.markdown(compare(tmp_path, base, head))


def test_rounds_of_a_training_process_are_no_repeated_processes(tmp_path: Path) -> None:
    """Rounds share what a process does to them: they tell nothing about the noise between processes or sessions."""
    (tmp_path / "0.json").write_text(json.dumps(benchmark_result(steady_row("a"), steady_row("b", kind="training"))))
    inference, training = sessions.read(tmp_path / "0.json").rows.values()
    assert (len(inference.processes), len(training.processes)) == (PROCESSES, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"commit": "another"}, "its commit is another"), ({"gpu": {"model": "a gpu"}}, "the GPU was none, is a gpu")],
)
def test_sessions_of_something_else_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match="no benchmark result in this folder"):
        sessions.read(tmp_path)
    write_sessions(tmp_path / "b", benchmark_result(steady_row()), 2)
    (tmp_path / "b" / "9.json").write_text(json.dumps(benchmark_result(steady_row(), **change)))
    with pytest.raises(UsageError, match=reason):
        sessions.read(tmp_path / "b")


def test_rows_that_not_every_session_measures_are_left_out_and_peaks_are_joined(tmp_path: Path) -> None:
    write_sessions(tmp_path / "b", benchmark_result(steady_row("a"), steady_row("bb")), 2)
    (tmp_path / "b" / "9.json").write_text(json.dumps(benchmark_result(steady_row("a"), steady_row("ccc"))))
    merged = sessions.read(tmp_path / "b")
    assert {name: len(row.sessions) for name, row in merged.rows.items()} == {"a": 3}
    assert merged.machine.matrix_peak["1"].flops == [1e11] * 6


def report_of(result: dict[str, Any]) -> dict[str, Any]:
    """The same result as `--report-to` writes it, without samples."""
    rows = [{"name": row["name"], **row["extra_info"]} for row in result["benchmarks"]]
    return {"format_version": 2, "machine": result["machine_info"]["cifar"], "rows": rows}


def test_a_report_without_samples_says_that_no_times_are_compared(tmp_path: Path) -> None:
    result = benchmark_result(steady_row("a"), steady_row("bb"), steady_row("c", kind="gain"))
    comparison = compare(tmp_path, report_of(result), result)
    assert outcomes(comparison) == {}
    assert comparison.facts()["without_samples"] == {"base": 2}
    assert "Times of 2 rows are not compared: the base has no samples" in comparison_tables.markdown(comparison)
    assert "not compared" not in comparison_tables.markdown(compare(tmp_path, result, result))


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
    by_one_session = compare(tmp_path, result, result, count=1)
    assert (by_one_session.count("unchanged"), by_one_session.count("inconclusive")) == (2, 2)


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


def test_a_row_that_is_missing_in_the_head_fails_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [steady_row("test_latency[a]"), steady_row("test_latency[bb]")]
    Path("base.json").write_text(json.dumps(benchmark_result(*rows)))
    Path("head.json").write_text(json.dumps(benchmark_result(rows[0])))
    missing = run_cli(["compare", "base.json", "head.json"])
    assert missing.code == 1
    assert "1 missing in the head" in missing.err
    assert "Missing in head: latency bb." in missing.out
    assert run_cli(["compare", "base.json", "head.json", "--allow-missing"]).code == 0
    assert run_cli(["compare", "head.json", "base.json"]).code == 0


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
