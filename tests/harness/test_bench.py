"""The benchmark harness: run as its users run it, on one small run; and its parts."""

import hashlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import ROOT, Command, isolated, train_here
from helpers import training_stub
from helpers.onnx_files import linear
from helpers.sabotage import sabotage
from hypothesis import given
from hypothesis import strategies as st

from bench.replay import ReplayTimer
from cifar import export
from cifar.benchmark import grid, jobs, models, report, tables, timing
from cifar.benchmark.grid import Case, TrainingCase
from cifar.benchmark.inference import InferenceBenchmark
from cifar.benchmark.measurements import Measurements, Missing
from cifar.benchmark.session import NotAvailableError, Peak
from cifar.benchmark.session import Session as BenchSession
from cifar.benchmark.tables import is_in_own_runtime, pareto_front
from cifar.benchmark.training import LEAST_ROUNDS, STEPS, TrainingBenchmark
from cifar.benchmark.training_job import LEAST_STEPS
from cifar.benchmark.worker import run_worker
from cifar.compare import benchmark_results, compare_results
from cifar.data import dataset
from cifar.data.dataset import Dataset
from cifar.errors import CifarError
from cifar.formats import FORMATS, manifest
from cifar.inference import scoring
from cifar.inference.preprocessing import Preprocessing
from cifar.inference.runtimes import RUNTIMES
from cifar.metrics.classification import unpack_mask
from cifar.recipes import recipe
from cifar.runs.run import Run
from cifar.system import files

SEVEN = {"keras", *FORMATS}


@dataclass(frozen=True)
class Session:
    """What pytest printed, its exit code, and the JSON it wrote, if any."""

    code: int
    out: str
    content: Any
    report: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [{**entry["extra_info"], "data": entry["stats"]["data"]} for entry in self.content["benchmarks"]]

    def reason(self, case: str) -> str:
        (line,) = [line for line in self.out.splitlines() if line.startswith((f"failed: {case}", f"skipped: {case}"))]
        return line


def bench(folder: Path, *arguments: str | Path, timeout: float = 1800, **variables: str) -> Session:
    file = folder / "o.json"
    file.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", ROOT / "bench", "--benchmark-only", f"--benchmark-json={file}", "-p",
         "no:cacheprovider", *arguments],
        cwd=folder, env=isolated(folder, **variables), capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    content = json.loads(file.read_text()) if file.exists() else None
    return Session(done.returncode, done.stdout + done.stderr, content, folder / "report")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`second`, one epoch on 256 drawn pictures, exported to three formats: the harness makes the others."""
    data = dataset.draw_synthetic()
    wanted = recipe("second", "none", epochs=1, dataset="synthetic").model_copy(update={"train_images": 256})
    (made,) = train_here([wanted], data, tmp_path_factory.mktemp("runs"))
    export.export_runs([made], data, ["onnx", "onnx-int8", "tflite-int8"], max_drop=100)
    return made


@pytest.fixture(scope="module")
def measured(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Every format, batches 1 and 32, cold starts, and one augmentation."""
    folder = tmp_path_factory.mktemp("bench")
    chosen = "latency or cold_start or augmentation and shift-flip-rotate"
    return bench(folder, "--run", run.path, "-k", chosen, "--report-to", folder / "report")


def test_every_format_has_its_rows_and_what_ran_is_what_was_asked(measured: Session, run: Run) -> None:
    assert measured.code == 0, measured.out
    rows = [row for row in measured.rows if row["kind"] == "inference"]
    assert {(row["format"], row["batch"]) for row in rows} == {(name, batch) for name in SEVEN for batch in (1, 32)}
    for row in rows:
        if not is_in_own_runtime(row):
            assert (row["quality"], row["provider_actual"]) == ("recorded", RUNTIMES[row["runtime"]].providers["cpu"])
            continue
        assert row["threads_actual"] == row["threads"] == 1
        asked = "CPU" if row["format"] == "keras" else RUNTIMES[row["runtime"]].providers["cpu"]
        assert row["provider_actual"] == asked
        assert 0 < row["cores_busy"] < 1.25
        assert row["weights_sha256"] == run.metrics.weights_sha256
        assert (row["quality"], row["n_test"]) == ("measured", 1000)
        assert row["accuracy"] == row["correct"] / 1000
        assert unpack_mask(row["correct_mask"], 1000).sum() == row["correct"]
        assert row["parameters"] == 208_794
        if row["precision"] == "float32":
            assert abs(row["accuracy"] - run.metrics.accuracy) <= 0.001
            assert row["agreement"] >= 0.999


def test_a_result_compares_with_itself_and_with_its_report(measured: Session, tmp_path: Path) -> None:
    file = tmp_path / "o.json"
    file.write_text(json.dumps(measured.content))
    mine = benchmark_results.read(file)
    assert compare_results(mine, mine).count("regressed") == 0
    report = benchmark_results.read(measured.report / "report.json")
    found = compare_results(report, mine)
    assert {verdict.outcome for verdict in found.verdicts} == {"unchanged"}
    assert found.without_samples == {"base": len(mine.rows)}
    assert {verdict.quantity for verdict in found.verdicts} >= {"accuracy", "agreement", "file_bytes", "parameters"}


def test_the_share_of_delegated_operations_is_in_the_row_and_the_table(measured: Session) -> None:
    """XNNPACK runs no conversion of bytes, and of int8 no softmax here: their file has 14 and 15 operations."""
    for row in measured.rows:
        if row["kind"] == "inference" and is_in_own_runtime(row):
            wanted = {"tflite": 13 / 14, "tflite-int8": 13 / 15, "tflite-float16": 29 / 30}.get(row["format"])
            assert row["delegated_share"] == (pytest.approx(wanted) if wanted else None)
    assert "XNNPACK 92%" in measured.out
    assert "XNNPACK 86%" in measured.out


def test_an_external_file_is_measured(tmp_path: Path) -> None:
    path = linear(tmp_path / "theirs.onnx", ("n", 3, 32, 32))
    how = ("--model", path, "--data", "synthetic", "-k", "latency")
    found = bench(tmp_path, *how, "--input-range", "0..1")
    assert found.code == 0, found.out
    assert [(row["model"], row["format"], row["batch"]) for row in found.rows] == [
        ("theirs.onnx", "onnx", 1),
        ("theirs.onnx", "onnx", 32),
    ]
    scored = scoring.score_file(path, dataset.draw_synthetic(), Preprocessing("0..1"), None, 1)
    right = int((scored.probabilities.argmax(axis=1) == dataset.draw_synthetic().y_test).sum())
    assert {row["correct"] for row in found.rows} == {right}
    unread = bench(tmp_path, *how)
    assert unread.code == pytest.ExitCode.USAGE_ERROR
    assert "Say it with --input-range" in unread.out


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "theirs.onnx" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        linear(path, ("n", 3, 32, 32))
    made = models.external_models(
        [*paths, paths[0]], models.ExternalModelOptions(Preprocessing("0..1"), None, "synthetic")
    )
    assert [model.name for model in made] == [str(path) for path in paths]


def test_a_row_without_an_accuracy_is_not_drawn(measured: Session) -> None:
    rows = [dict(row) for row in measured.rows if row["kind"] == "inference"]
    rows = [row for row in rows if is_in_own_runtime(row)]
    rows[0]["accuracy"] = None
    (axes,) = report.figure(Measurements(rows, [], {})).axes
    drawn = [line for line in axes.lines if len(line.get_xdata())]
    assert len(drawn) == len(rows) - 1


def test_samples_percentiles_and_speeds_belong_together(measured: Session) -> None:
    for row in measured.rows:
        if row["kind"] != "inference":
            continue
        data = row["data"]
        assert len(data) == row["samples"] >= 64
        for percent, least in ((50, 64), (90, 130), (99, 662)):
            told = row[f"p{percent}_ms"]
            assert (told is None) == (len(data) < least)
            assert told is None or told == pytest.approx(1000 * np.percentile(data, percent))
        assert row["images_per_second"] == pytest.approx(row["batch"] / np.median(data))
        assert len(row["repeats"]) == grid.DEFAULT.processes
        assert sum(row["repeats"]) == len(data)
        peaks = measured.content["machine_info"]["cifar"]["matrix_peak"]["1"]["flops"]
        assert len(peaks) == 2
        share = row["images_per_second"] * 2 * 6_499_840 / max(peaks)
        assert row["peak_fraction"] == (None if row["precision"] == "int8" else pytest.approx(share))


def test_a_start_takes_longer_than_the_load_in_it(measured: Session) -> None:
    rows = {row["format"]: row for row in measured.rows if row["kind"] == "cold_start"}
    assert set(rows) == SEVEN
    for row in rows.values():
        assert min(row["data"]) * 1000 > row["load_ms"] > 0
        assert 0 < row["memory_bytes"]["1"] <= row["memory_bytes"]["32"]
    assert rows["tflite-int8"]["file_bytes"] < rows["tflite-float16"]["file_bytes"] < rows["tflite"]["file_bytes"]


def test_the_machine_is_described(measured: Session) -> None:
    facts = measured.content["machine_info"]["cifar"]
    assert facts["cpu"]["model"]
    assert {"tensorflow", "ai-edge-litert", "onnxruntime"} <= set(facts["packages"])
    assert facts["gpu"] is None or facts["gpu"]["driver"]


def test_the_report_fits_a_hundred_columns_and_is_written_too(measured: Session, run: Run) -> None:
    printed = measured.out[measured.out.index(f"{run.path.name} on 1 thread") :]
    wide = ("Written", "skipped", "SKIPPED")
    assert max(len(line) for line in printed.splitlines() if not line.startswith(wide)) <= 100
    assert "\x1b" not in printed
    assert "Pareto front" in printed
    folder = Path(measured.out.split("Written: ")[1].splitlines()[0].split(",")[0]).parent
    content = json.loads((folder / "report.json").read_text())
    assert content["format_version"] == 2
    assert len(content["rows"]) == len(measured.rows)
    assert (folder / "report.md").read_text().count("| tflite-int8 |") == 4  # in LiteRT with and without its delegate
    assert (folder / "accuracy-latency.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_order_of_cases_follows_its_seed(measured: Session, run: Run, tmp_path: Path) -> None:
    def order(session: Session) -> list[int]:
        return [row["order"] for row in session.rows if row["kind"] == "inference" and "onnx" in row["format"]]

    first, again = (bench(tmp_path, "--run", run.path, "-k", "latency and onnx", "--order-seed", "4") for _ in "ab")
    assert order(first) == order(again) != [0, 1, 2, 3]
    assert sorted(order(first)) == sorted(order(measured)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "nowhere"], "nowhere: there is no such folder of runs"),
        (["--run", "."], "there is no run in it"),
        (["--device", "tpu"], "There is no device for --device 'tpu'"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    before = sorted(tmp_path.iterdir())
    output = bench(tmp_path, *arguments)
    assert output.code == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in output.out.splitlines() if line.strip()]
    assert line.startswith("ERROR: ")
    assert said in line
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_that_is_not_finished_is_one_line(run: Run, tmp_path: Path) -> None:
    unfinished = tmp_path / "runs" / run.path.name
    unfinished.mkdir(parents=True)
    (unfinished / "recipe.json").write_bytes((run.path / "recipe.json").read_bytes())
    output = bench(tmp_path, "--run", unfinished)
    assert output.code == pytest.ExitCode.USAGE_ERROR
    assert "this run is interrupted; it has no results yet" in output.out


def test_a_truncated_file_fails_its_rows_and_no_others(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / run.path.name
    shutil.copytree(run.path, copy)
    (file,) = (copy / "exports").glob("*.int8.tflite")
    file.write_bytes(file.read_bytes()[:1000])
    output = bench(tmp_path, "--run", copy, "-k", "latency and (tflite-int8 or onnx-b1)")
    assert output.code == pytest.ExitCode.TESTS_FAILED
    assert {row["format"] for row in output.rows} == {"onnx"}
    assert "its SHA-256 differs" in output.reason(f"test_latency[{run.path.name}-tflite-int8-b1-")
    assert "Traceback" not in output.out


WITHOUT_XNNPACK = """
import ai_edge_litert.interpreter as module
honest = module.Interpreter
plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
module.Interpreter = lambda path, **options: honest(path, **options, experimental_op_resolver_type=plain)
"""
OTHER_THREADS = """
import onnxruntime
InferenceSession = onnxruntime.InferenceSession
def session(path, options, providers):
    options.intra_op_num_threads = 3
    return InferenceSession(path, options, providers=providers)
onnxruntime.InferenceSession = session
"""


def test_what_ran_otherwise_than_wanted_is_a_failed_row_and_never_a_number(run: Run, tmp_path: Path) -> None:
    variables = sabotage(tmp_path / "site", WITHOUT_XNNPACK + OTHER_THREADS)
    output = bench(tmp_path, "--run", run.path, "-k", "b1 and latency and (int8)", **variables)
    assert output.code == pytest.ExitCode.TESTS_FAILED
    assert output.content is None
    name = f"test_latency[{run.path.name}"
    assert "wanted XNNPACK, but built-in kernels ran" in output.reason(f"{name}-tflite-int8-b1")
    assert "wanted 1 threads, but 3 ran" in output.reason(f"{name}-onnx-int8-b1")


def test_a_row_of_two_threads_that_used_one_fails_where_its_work_is_enough_for_two() -> None:
    """TensorFlow's and JAX's numbers of threads are settings that are read back: they show nothing."""
    model = next(model for model in models.released_models(ROOT / "exports") if model.name.startswith("first"))
    session = BenchSession(grid.DEFAULT, {model.name: model}, 0)
    benchmark = InferenceBenchmark(session)
    for batch, busy, fails in ((32, 1, True), (32, 2, False), (32, 0, False), (1, 1, False)):
        case = Case(model.name, "saved-model", batch, 2, "cpu")
        result = {"provider_actual": "CPU", "threads_actual": 2, "cores_busy": 1.0, "threads_busy": busy}
        with pytest.raises(CifarError, match="wanted 2 threads, but one did") if fails else nullcontext():
            benchmark._check_what_ran(case, result)
    session.end(interrupted=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_that_compute_are_told_from_those_that_wait(threads: int) -> None:
    content = bytes(16 << 20)  # long enough that what the main thread does for a call is nothing beside it
    with ThreadPoolExecutor(threads) as pool:
        samples = timing.sample(lambda: list(pool.map(hashlib.sha256, [content] * threads)), budget=1.0)
    assert samples.threads_busy == threads


def test_a_runtime_that_is_not_installed_is_skipped_with_its_reason(run: Run, tmp_path: Path) -> None:
    variables = sabotage(tmp_path / "site", "import sys; sys.modules['onnxruntime'] = None")
    output = bench(tmp_path, "--run", run.path, "-k", "latency and onnx-int8", **variables)
    assert output.code == 0
    assert "onnxruntime is not installed" in output.reason(f"test_latency[{run.path.name}-onnx-int8-b1")


def test_gpu_rows_on_a_machine_without_one_are_skipped_with_the_reason(run: Run, tmp_path: Path) -> None:
    output = bench(tmp_path, "--run", run.path, "--device", "gpu", "-k", "latency", PATH="/nowhere")
    assert output.code == 0
    assert re.search(r"^skipped: .* and \d\d more: there is no NVIDIA GPU on this machine$", output.out, re.MULTILINE)


def test_a_gain_row_says_what_augmentation_gained(pair: list[Run], tmp_path: Path) -> None:
    output = bench(tmp_path, "--run", pair[0].path, pair[1].path, "-k", "gain")
    (row,) = output.rows
    plain, augmented = (made.metrics for made in pair)
    assert row["difference"] == pytest.approx(augmented.accuracy - plain.accuracy)
    assert row["interval"][0] <= row["difference"] <= row["interval"][1]
    assert row["data"] == [augmented.train_seconds]
    assert row["minutes_to_75_plain"] is None  # three epochs do not get there


def test_a_time_to_accuracy_row_has_the_recorded_times_and_both_accuracies(
    run: Run, tmp_path: Path, cifar: Command
) -> None:
    output = bench(tmp_path, "--run", run.path, "-k", "time_to_accuracy")
    (row,) = output.rows
    assert row["data"] == [timing.train_seconds for timing in run.timing]
    assert row["minutes"] == pytest.approx(run.metrics.train_seconds / 60)
    assert row["accuracy"] == run.metrics.accuracy
    evaluated = json.loads(cifar("evaluate", run.path, "--test-time-augmentation", "mirror-shift", "--json").out)
    assert row["accuracy_mirror_shift"] == evaluated["test_time_augmentation"]["accuracy"]
    assert row["minutes_to_94"] is None  # one epoch of 256 images does not get there
    assert row["minutes_to_94_mirror_shift"] is None


def test_training_steps_and_the_time_to_the_first_are_measured(tmp_path: Path) -> None:
    output = bench(tmp_path, "-k", "training and (first-none-cifar or first_step) and not bfloat16")
    assert output.code == 0, output.out
    steps, first = sorted(output.rows, key=lambda row: row["kind"] != "training")
    assert (steps["batch"], steps["precision"]) == (128, "float32")
    assert len(steps["data"]) == sum(steps["rounds"])
    assert all(LEAST_STEPS <= steps_of_round <= STEPS for steps_of_round in steps["rounds"])
    assert LEAST_ROUNDS <= len(steps["images_per_second_rounds"]) == len(steps["rounds"]) <= grid.DEFAULT.rounds
    assert steps["flop_per_image"] == pytest.approx(127.9e6, rel=1e-3)
    assert steps["images_per_second"] == pytest.approx(128 / np.median(steps["data"]))
    assert steps["slowest_over_median"] == pytest.approx(max(steps["data"]) / np.median(steps["data"]))
    peak = max(output.content["machine_info"]["cifar"]["matrix_peak"][str(steps["threads"])]["flops"])
    assert steps["peak_fraction"] == pytest.approx(steps["images_per_second"] * steps["flop_per_image"] / peak)
    assert 300 << 20 < steps["memory_bytes"] < 1500 << 20
    assert 0 < first["import_seconds"] < min(first["data"])
    assert first["threads"] == steps["threads"] == grid.TRAINING_THREADS
    assert "Training steps" in output.out
    assert "to the end of the first step" in output.out


def test_a_peers_memory_is_that_of_one_batch_size_without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer is a stub in place of PyTorch, so that this needs no PyTorch."""
    for name in ("training", "try_batch_sizes"):
        monkeypatch.setattr(jobs, name, getattr(training_stub, name))
    monkeypatch.setattr("cifar.benchmark.training.is_installed", lambda _: True)
    case = TrainingCase("second", "none", "pytorch")
    session = BenchSession(replace(grid.DEFAULT, rounds=2, try_batch_sizes=True), {}, 0, training=[case])
    session.peaks = {(grid.TRAINING_THREADS, "float32"): Peak("not measured", [1e12])}
    _, row = TrainingBenchmark(session).steps(case)
    assert row["batch"] == 128
    assert row["tried"]["128"] > row["tried"]["256"]
    assert row["memory_bytes"] < training_stub.BALLAST
    assert row["flop_per_image"] > 6 * 6e6
    assert row["rounds"] == [STEPS] * 2
    assert "repeats" not in row  # they are rounds of one process, not repeated processes
    session.end(interrupted=True)


def test_the_memory_of_a_worker_does_not_begin_with_its_parents() -> None:
    """ru_maxrss does, on Linux."""
    program = "from cifar.system import hardware; print(hardware.peak_memory())"
    ballast = np.ones(300 << 20, np.uint8)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert 5 << 20 < int(done.stdout) < len(ballast) // 2


def test_a_released_model_predicts_through_keras_with_the_weights_of_its_saved_model(
    exported: Path, pair: list[Run], small: Dataset, tmp_path: Path
) -> None:
    (model,) = models.released_models(exported)
    model.prepare(tmp_path, SEVEN)
    assert set(model.paths) == {*SEVEN, "keras-jax"}
    assert not model.unavailable
    images, predictions = tmp_path / "images.npy", tmp_path / "predictions.npy"
    np.save(images, small.x_test)
    job = jobs.FileJob("x", "keras", model.paths["keras"], model.facts["network"], 1, 2, "cpu", images, None)
    run_worker(jobs.save_predictions, 2, job=job, to=predictions)
    np.testing.assert_array_equal(np.load(predictions), pair[0].predictions()[0])
    run_worker(jobs.save_predictions, 2, job=replace(job, format="keras-jax"), to=predictions)
    np.testing.assert_allclose(np.load(predictions), pair[0].predictions()[0], atol=1e-5)


@pytest.mark.slow
def test_jax_is_measured_and_shown_to_have_run(exported: Path) -> None:
    (model,) = models.released_models(exported)
    case, training = Case(model.name, "keras-jax", 1, 1, "cpu"), TrainingCase("second", "shift-flip", "jax")
    quick = replace(grid.DEFAULT, processes=1, rounds=1, budget=0.1, jax=True)
    session = BenchSession(
        quick, {model.name: model}, 0, inference=[case], training=[training], formats=["saved-model"]
    )
    session.peaks = {(threads, "float32"): Peak("not measured", [1e12]) for threads in (1, grid.TRAINING_THREADS)}
    _, row = InferenceBenchmark(session).latency(case)
    assert (row["provider_actual"], row["runtime"], row["threads_actual"]) == ("JAX CPU", "jax", 1)
    seconds, row = TrainingBenchmark(session).steps(training)
    assert (row["method"], row["device"], row["batch"]) == ("cifar train, JAX", "cpu", 64)
    assert row["images_per_second"] == pytest.approx(64 / np.median(seconds))
    session.end(interrupted=True)


def test_a_released_model_without_a_saved_model_is_measured_with_what_its_manifest_records(
    exported: Path, tmp_path: Path
) -> None:
    lines = [line for line in manifest.read(exported) if line.format == "onnx"]
    shutil.copy(exported / lines[0].file, tmp_path)
    with manifest.locked_entries(tmp_path) as held:
        held[lines[0].file] = lines[0]
    (model,) = models.released_models(tmp_path)
    case = Case(model.name, "onnx", 1, 1, "cpu")
    session = BenchSession(grid.DEFAULT, {model.name: model}, 0, inference=[case], formats=["onnx"])
    _, row = InferenceBenchmark(session).latency(case)
    assert (row["quality"], row["accuracy"], row["agreement"]) == ("recorded", lines[0].accuracy, 1.0)
    missing = Case(model.name, "keras", 1, 1, "cpu")
    with pytest.raises(NotAvailableError, match="comes without a keras file"):
        InferenceBenchmark(session).latency(missing)
    session.end(interrupted=True)


@pytest.mark.slow
def test_two_runs_of_one_name_are_told_apart_and_left_as_they_are(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(run.path, tmp_path / name / run.path.name)
    before = [files.sha256(tmp_path / name) for name in ("a", "b")]
    folders = [tmp_path / name / run.path.name for name in ("a", "b")]
    output = bench(tmp_path, "--run", *folders, "-k", "latency and tflite-b1")
    assert output.code == 0, output.out
    assert [row["model"] for row in output.rows] == [str(folder) for folder in folders]
    assert [files.sha256(tmp_path / name) for name in ("a", "b")] == before


def test_the_grids_hold_what_they_promise() -> None:
    chosen = [models.BenchmarkModel("m", "")]
    cases = grid.inference_cases(grid.DEFAULT, chosen, ["cpu"])
    assert len([case for case in cases if case.runtime is None]) == 14
    in_others = {(case.format, case.runtime, case.batch) for case in cases if case.runtime}
    assert {name for _, name, _ in in_others} == RUNTIMES.keys() - {row.runtime for row in FORMATS.values()}
    assert {batch for _, name, batch in in_others if RUNTIMES[name].single_image} == {1}
    assert {name for name, runtime, _ in in_others if runtime == "tflite-micro"} == {"tflite-int8"}
    of_two = grid.inference_cases(grid.DEFAULT, [*chosen, models.BenchmarkModel("n", "")], ["cpu"])
    assert {case.model for case in of_two if case.runtime} == {"m"}
    assert {case.threads for case in cases} == {1}
    assert list(map(str, grid.training_cases(grid.DEFAULT, ["cpu"]))) == [
        "first-none-cifar", "first-none-fit", "first-none-pytorch",
        "first-shift-flip-cifar", "first-shift-flip-generator", "first-shift-flip-layers", "first-shift-flip-pytorch",
        "first-shift-flip-rotate-cifar",
        "first-none-cifar-bfloat16", "first-none-fit-bfloat16", "first-none-pytorch-bfloat16",
        "first-shift-flip-cifar-bfloat16",
        "airbench94-none-cifar-bfloat16", "airbench94-none-fit-bfloat16", "airbench94-none-pytorch-bfloat16",
    ]  # fmt: skip
    assert grid.first_step_networks(grid.DEFAULT) == ["first"]
    assert grid.first_step_networks(grid.FULL) == ["first", "second", "third"]
    two = [models.BenchmarkModel(name, "") for name in ("a", "b")]
    assert {case.model for case in grid.cold_start_cases(grid.DEFAULT, two)} == {"a"}
    on_gpu = {(case.policy, case.method) for case in grid.training_cases(grid.DEFAULT, ["cpu", "gpu"])}
    assert on_gpu >= {("none", "jax"), ("shift-flip", "jax"), ("shift-flip-rotate", "jax")}
    assert {
        c.device for c in grid.inference_cases(grid.DEFAULT, chosen, ["cpu", "gpu"]) if c.format == "keras-jax"
    } == {"gpu"}
    full = grid.inference_cases(grid.FULL, chosen, ["cpu", "gpu"])
    assert {case.batch for case in full} == {1, 32, 256}
    assert {case.threads for case in full} == {1, grid.ALL_THREADS}
    assert len(set(map(str, full))) == len(full)
    assert len([case for case in full if case.runtime is None]) == 8 * 3 * len(grid.FULL.threads) * 2
    assert str(Case("m", "onnx", 1, 2, "cpu")) == "m-onnx-b1-t2-cpu"


def test_pytorch_trains_the_same_network() -> None:
    torch = pytest.importorskip("torch")
    from cifar.benchmark import pytorch_training

    for name, parameters in (("first", 276_138), ("second", 208_794), ("third", 554_794), ("airbench94", 1_971_640)):
        model = pytorch_training.network(name)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    images = torch.rand(64, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    moved = pytorch_training.augment(images, recipe("first", "shift-flip").policy)
    assert moved.shape == images.shape
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(moved, images)


@given(st.lists(st.floats(1e-6, 10, allow_nan=False), max_size=50))
def test_replayed_samples_come_back_as_they_were(seconds: list[float]) -> None:
    replay = ReplayTimer()
    replay.feed(seconds)
    assert [-replay() + replay() for _ in seconds] == seconds


@given(st.integers(0, 800), st.sampled_from([50, 90, 99]))
def test_a_percentile_needs_its_samples(n: int, percent: int) -> None:
    told = timing.sample_percentile([1.0] * n, percent)
    assert told == (1.0 if n >= {50: 64, 90: 130, 99: 662}[percent] else None)


def test_the_documents_say_how_often_a_sample_percentile_reaches_the_true_one() -> None:
    random, shape = np.random.default_rng(0), (20_000, timing.MIN_SAMPLES[99])
    for samples, true in (
        (random.random(shape), 0.99),
        (random.exponential(size=shape), math.log(100)),
        (random.standard_normal(shape), 2.3263),
    ):
        assert float((np.percentile(samples, 99, axis=1) >= true).mean()) == pytest.approx(0.4, abs=0.02)
    said = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    assert "the p99 of 662 samples reaches the true one 40 times in 100" in said
    assert "sample percentiles" in tables.INFERENCE_LEGEND


class Clock:
    """A clock that only calls move; the processor is busy for a tenth of the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now / 10


def test_sampling_warms_up_until_the_times_are_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Clock(), 0
    monkeypatch.setattr(timing, "time", clock)

    def call() -> None:
        nonlocal calls
        calls += 1
        clock.now += 0.02 if calls <= 7 else 0.002

    samples = timing.sample(call, budget=0.1)
    assert samples.steady
    assert samples.warm_up == 15  # the third window is the first that is like the one before it
    assert len(samples.seconds) == 130  # enough for the 90th percentile, and the budget is spent
    assert samples.seconds == pytest.approx([0.002] * 130)
    assert samples.cores_busy == pytest.approx(0.1)


def test_sampling_of_times_that_never_settle_begins_after_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Clock(), 0
    monkeypatch.setattr(timing, "time", clock)

    def call() -> None:
        nonlocal calls
        calls += 1
        clock.now += 0.001 * calls

    samples = timing.sample(call, budget=0.1)
    assert not samples.steady
    assert sum(0.001 * number for number in range(1, samples.warm_up + 1)) > 2
    assert len(samples.seconds) == 64


def test_busy_threads_are_counted_by_their_processor_time() -> None:
    assert timing._count_busy({1: 5.0, 2: 5.0}, {1: 6.0, 2: 5.05, 3: 0.5}) == 2
    assert timing._count_busy({1: 5.0}, {1: 5.01, 2: 0.01}) == 0  # too short to tell
    own = [psutil.Process()]
    assert set(timing._thread_seconds(own)) <= set(timing._thread_seconds(own))


points = st.lists(
    st.builds(lambda a, s: {"accuracy": a, "images_per_second": s}, st.integers(0, 5), st.integers(1, 5)), min_size=1
)


@given(points)
def test_the_pareto_front_is_what_nothing_beats(rows: list[dict[str, float]]) -> None:
    def beaten(row: dict[str, float], by: list[dict[str, float]]) -> bool:
        return any(
            other["accuracy"] >= row["accuracy"] and other["images_per_second"] >= row["images_per_second"]
            and (other["accuracy"] > row["accuracy"] or other["images_per_second"] > row["images_per_second"])
            for other in by
        )  # fmt: skip

    front = pareto_front(rows)
    assert front
    assert not any(beaten(row, rows) for row in front)
    assert all(row in front or beaten(row, front) for row in rows)


@given(st.floats(0.0005, 99_999))
def test_milliseconds_fit_five_characters(value: float) -> None:
    assert len(tables._milliseconds(value)) <= 5


def test_what_was_not_measured_is_said() -> None:
    row = {"kind": "augmentation", "augment": "shift", "batch": 128, "threads": 1, "images_per_second": 10.0}
    missing = Missing("test_latency[x]", "failed", "GPU was asked, CPU ran")
    result = Measurements([row], [missing], {(2, "float32"): Peak("blas", [1e9, 2e9])})
    printed = io.StringIO()
    report.show(result, printed)
    assert "failed: test_latency[x]: GPU was asked, CPU ran" in printed.getvalue()
    assert "- failed: `test_latency[x]`: GPU was asked, CPU ran" in report.markdown(result)


def test_an_unsteady_machine_is_named() -> None:
    training = {
        "kind": "training", "method": "cifar train", "model": "first", "augment": "none", "batch": 128, "threads": 2,
        "images_per_second": 100.0, "images_per_second_best": 110.0, "flop_per_image": 1e7,
        "slowest_over_median": 1.0, "memory_bytes": 1, "peak_fraction": 0.5, "precision": "float32",
        "tried": {}, "rounds": [1], "images_per_second_rounds": [100.0],
    }  # fmt: skip
    for after, unsteady in ((0.95e9, False), (0.85e9, True)):
        text = report.markdown(Measurements([training], [], {(2, "float32"): Peak("blas", [1e9, after])}))
        assert ("UNSTEADY" in text) == unsteady


# `cifar bench`: the same measurement without pytest


def test_the_command_measures_a_listed_file_and_its_report_can_be_compared(
    exported: Path, cifar: Command, tmp_path: Path
) -> None:
    (path,) = exported.glob("*-none-s0.int8.tflite")
    output = cifar("bench", path, "--batch-size", "1", "--report-to", "report", timeout=1800)
    assert output.code == 0, output.err
    assert "tflite-int8" in output.out
    assert max(map(len, output.out.splitlines())) <= 100
    result = benchmark_results.read(tmp_path / "report" / "report.json")
    assert [row.columns.kind for row in result.rows.values()] == ["inference", "cold_start"]
    assert compare_results(result, result).count("regressed") == 0


def test_the_command_measures_external_files_and_says_what_failed(cifar: Command, tmp_path: Path) -> None:
    path = linear(tmp_path / "theirs.onnx", ("n", 3, 32, 32))
    refused = cifar("bench", path, "--data", "synthetic", timeout=1800)
    assert (refused.code, refused.out) == (2, "")
    assert "Say it with --input-range" in refused.err
    arguments = ("--data", "synthetic", "--input-range", "0..1", "--batch-size", "1", "--json")
    output = cifar("bench", path, *arguments, timeout=1800)
    assert output.code == 0, output.err
    kinds = {row["kind"]: row for row in output.json["rows"]}
    assert set(kinds) == {"inference", "cold_start"}
    assert kinds["inference"]["model"] == "theirs.onnx"
    assert kinds["inference"]["n_test"] == 1000
    assert output.json["missing"] == []
    absent = cifar("bench", "absent.onnx")
    assert (absent.code, absent.out) == (2, "")
    assert "absent.onnx" in absent.err
