"""The training rows of the benchmark: how steps are timed, ratios, bfloat16, and the time to 94 %."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from cifar.analysis.finished_run import FinishedRun
from cifar.benchmark import grid, training_job
from cifar.benchmark.grid import Case, TrainingCase
from cifar.benchmark.inference import InferenceBenchmark
from cifar.benchmark.measurements import Measurements
from cifar.benchmark.models import released_models
from cifar.benchmark.session import NotAvailableError, Session
from cifar.benchmark.time_to_accuracy import time_to_accuracy
from cifar.benchmark.training import TrainingBenchmark
from cifar.benchmark.training_job import LEAST_STEPS, WARM_UP_STEPS, Stopwatch
from cifar.benchmark.training_tables import ratio_rows, training_tables
from cifar.runs.run import Run
from cifar.system import environment

AIRBENCH94 = Run(ROOT / "bench" / "recipes" / "timed" / "airbench94-bfloat16-pad-crop-alternating-flip-s0")


def rounds_of(step_seconds: float, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[int], int]:
    """Steps before the first round, the steps of two rounds, and those before the first that `ready` saw."""
    now = 0.0
    monkeypatch.setattr(training_job.time, "perf_counter", lambda: now)
    rounds: list[int] = []
    ready_at: list[int] = []
    ticks = before_first = 0
    stopwatch = Stopwatch(
        128, 15, 1.0, lambda seconds: rounds.append(len(seconds)), ready=lambda: ready_at.append(ticks)
    )
    while len(rounds) < 2:
        ticks += 1
        now += step_seconds
        stopwatch()
        if not rounds:
            before_first = ticks
    (ready,) = ready_at
    return before_first + 1 - rounds[0], rounds, ready


def test_quick_steps_are_timed_in_full_rounds_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds_of(0.01, monkeypatch) == (WARM_UP_STEPS + 1, [15, 15], 1)


def test_of_long_steps_a_few_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds_of(10.0, monkeypatch) == (LEAST_STEPS + 1, [LEAST_STEPS, LEAST_STEPS], 1)


def test_a_round_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds_of(0.15, monkeypatch) == (7 + 1, [7, 7], 1)


def row(method: str, speed: float, precision: str = "float32", augment: str = "none", model: str = "first") -> Any:
    return {
        "kind": "training", "method": method, "model": model, "augment": augment, "precision": precision,
        "images_per_second": speed, "images_per_second_rounds": [speed, 1.1 * speed], "threads": 2, "batch": 128,
        "slowest_over_median": 1.0, "memory_bytes": 1, "tried": {}, "rounds": [15, 15],
    }  # fmt: skip


def test_ours_is_compared_with_peers_in_its_precision_and_in_float32_and_with_its_own_plain_training() -> None:
    rows = [
        row("cifar train", 1200),
        row("cifar train", 3000, "bfloat16"),
        row("cifar train", 900, augment="shift-flip"),
        row("Keras fit", 1000),
        row("Keras fit", 2000, "bfloat16"),
        row("Random* layers", 600, augment="shift-flip"),
        row("PyTorch", 400, "bfloat16", model="airbench94"),
        row("cifar train", 500, "bfloat16", model="airbench94"),
    ]
    found = {}
    for ratio in ratio_rows(rows):
        assert ratio["of_rounds"] == f"{ratio['ratio']:.2f} to {ratio['ratio']:.2f}"
        key = (ratio["model"], ratio["augment"], ratio["precision"], ratio["method"], ratio["other_precision"])
        found[key] = round(ratio["ratio"], 6)
    assert found == {
        ("first", "none", "float32", "Keras fit", "float32"): 1.2,
        ("first", "none", "bfloat16", "Keras fit", "float32"): 3.0,
        ("first", "none", "bfloat16", "Keras fit", "bfloat16"): 1.5,
        ("first", "shift-flip", "float32", "Random* layers", "float32"): 1.5,
        ("first", "shift-flip", "float32", "itself, none", "float32"): 0.75,
        ("airbench94", "none", "bfloat16", "PyTorch", "bfloat16"): 1.25,
    }
    steps, ratios = training_tables(Measurements(rows, [], {}))
    assert len(steps.rows) == len(rows)
    assert len(ratios.rows) == len(found)


def test_bfloat16_is_skipped_with_the_reason_where_the_processor_has_no_units_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "has_bfloat16_units", lambda: False)
    case = TrainingCase("first", "none", "cifar", "bfloat16")
    session = Session(grid.DEFAULT, {}, 0, training=[case])
    with pytest.raises(NotAvailableError, match="no units for bfloat16; --full"):
        TrainingBenchmark(session).steps(case)
    session.end(interrupted=True)


@pytest.mark.slow
def test_rows_of_both_networks_are_measured_in_bfloat16() -> None:
    cases = []
    for method in ("cifar", "fit"):
        cases.append(TrainingCase("second", "none", method, "bfloat16"))
        cases.append(TrainingCase("airbench94", "none", method, "bfloat16", batch_size=16))
    chosen = replace(grid.DEFAULT, rounds=1, round_seconds=0.1, emulated=True)
    session = Session(chosen, {}, 0, training=cases)
    benchmark = TrainingBenchmark(session)
    for case in cases:
        seconds, measured = benchmark.steps(case)
        assert len(seconds) == sum(measured["rounds"]) >= LEAST_STEPS
        assert (measured["precision"], measured["batch"]) == ("bfloat16", case.batch_size or 64)
    peaks = {precision for _, precision in session.peaks}
    assert peaks == ({"bfloat16"} if environment.has_bfloat16_units() else set())
    session.end(interrupted=True)


def test_the_time_to_94_percent_of_a_committed_run_needs_neither_its_model_nor_the_data() -> None:
    _, measured = time_to_accuracy(FinishedRun(AIRBENCH94))
    views = json.loads((AIRBENCH94.path / "mirror-shift.json").read_text())["test_time_augmentation"]
    assert measured["accuracy_mirror_shift"] == views["accuracy"] >= 0.94
    assert measured["minutes_to_94_mirror_shift"] == pytest.approx(AIRBENCH94.metrics.train_seconds / 60)
    assert measured["without_views"] == ""


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "the run has no model.keras"),
        (lambda path: path.write_text("{"), "not JSON"),
        (lambda path: path.write_text(path.read_text().replace('sha256": "9', 'sha256": "8')), "other weights"),
    ],
)
def test_why_there_is_no_accuracy_of_views_is_said(tmp_path: Path, spoil: Any, reason: str) -> None:
    shutil.copytree(AIRBENCH94.path, tmp_path / AIRBENCH94.path.name)
    run = Run(tmp_path / AIRBENCH94.path.name)
    spoil(run.path / "mirror-shift.json")
    _, measured = time_to_accuracy(FinishedRun(run))
    assert (measured["accuracy_mirror_shift"], measured["minutes_to_94_mirror_shift"]) == (None, None)
    assert reason in measured["without_views"]


def test_of_further_models_the_accuracy_is_the_recorded_one_and_the_table_says_so(exported: Path) -> None:
    (model,) = released_models(exported)
    case = Case(model.name, "tflite", 1, 1, "cpu")
    chosen = replace(grid.DEFAULT, thorough_models=0, budget=0.1)
    session = Session(chosen, {model.name: model}, 0, inference=[case], formats=["tflite"])
    _, measured = InferenceBenchmark(session).latency(case)
    recorded = model.entries["tflite"]
    assert (measured["quality"], measured["accuracy"]) == ("recorded", recorded.accuracy)
    assert measured["not_measured"] == "--full measures it"
    assert "correct_mask" not in measured
    session.end(interrupted=True)
