"""pytest-benchmark's options, fixtures and hooks for the benchmark: with our columns, machine facts and tables.

The measuring is in cifar.benchmark.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.replay import ReplayTimer
from cifar.analysis import summary
from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.gains import Gain
from cifar.analysis.groups import Group
from cifar.benchmark import grid, measure, models, report
from cifar.benchmark.inference import InferenceBenchmark
from cifar.benchmark.measurements import Measurements, Missing
from cifar.benchmark.session import NotAvailableError, Row, Session
from cifar.benchmark.training import TrainingBenchmark
from cifar.data import dataset
from cifar.errors import CifarError, one_of, printable
from cifar.formats import origin
from cifar.inference import scoring
from cifar.inference.preprocessing import parse_preprocessing
from cifar.recipes import POLICIES
from cifar.runs.run import Run
from cifar.system import hardware

RELEASED = Path(__file__).parent.parent / "exports"
TIMED_RUN = Path(__file__).parent / "recipes" / "timed" / "airbench94-bfloat16-pad-crop-alternating-flip-s0"
"""The committed run whose time to 94 % is shown where no run is named: it had its machine to itself."""
DEVICES = ("cpu", "gpu", "all")
SESSION = pytest.StashKey[Session]()
GAINS = pytest.StashKey[list[tuple[Group, Gain]]]()
FINISHED = pytest.StashKey[list[FinishedRun]]()
NO_PAIRS = pytest.param(None, marks=pytest.mark.skip(reason="no plain and augmented runs of one network (--run)"))
NO_RUNS = pytest.param(None, marks=pytest.mark.skip(reason="no finished runs (--run)"))

Measure = Callable[[], tuple[list[float], Row]]


replay = ReplayTimer()
MARKS = pytest.mark.benchmark(timer=replay)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cifar-bench")
    group.addoption("--run", nargs="+", action="extend", default=[], metavar="DIR", help="Run folders to measure.")
    group.addoption(
        "--model", nargs="+", action="extend", default=[], metavar="FILE", help="External model files to measure."
    )
    for name, metavar in (("input-range", "RANGE"), ("mean", "R,G,B"), ("std", "R,G,B"), ("labels", "NAMES")):
        group.addoption(f"--{name}", default=None, metavar=metavar, help="Of --model, as for `cifar evaluate`.")
    group.addoption("--data", default="cifar10", metavar="NAME", help="For --model: cifar10 (default) or synthetic.")
    group.addoption("--full", action="store_true", help="Every batch size, number of threads, network and policy.")
    group.addoption(
        "--device", default=None, metavar="NAME", help="cpu, gpu or all. Default: the GPU too, if there is one."
    )
    group.addoption("--order-seed", type=int, default=0, metavar="N", help="Seed of the order of cases. Default: 0.")
    group.addoption(
        "--report-to", default=None, metavar="DIR", help="Write the tables there, as Markdown, JSON and PNG."
    )


def pytest_configure(config: pytest.Config) -> None:
    device = config.getoption("device", None)
    folders = list(map(Path, config.getoption("run", [])))
    model_files = list(map(Path, config.getoption("model", [])))
    try:
        if device is not None:
            one_of("device for --device", device, DEVICES)
        for path in models.unknown_programs(model_files, folders):
            print(f"note: {printable(str(path))} is {origin.NOTE}", file=sys.stderr)
        chosen = _external_models(config) or models.find_models(folders, RELEASED)
        runs = [model.run for model in chosen if model.run]
        groups = summary.summarise(runs).groups
    except CifarError as error:
        raise pytest.UsageError(str(error)) from None
    by_name = {model.name: model for model in chosen}
    measured = grid.FULL if config.getoption("full", False) else grid.DEFAULT
    if folders or model_files:
        measured = replace(measured, thorough_models=None)
    config.stash[SESSION] = Session(measured, by_name, config.getoption("order_seed", 0))
    config.stash[GAINS] = []
    config.stash[FINISHED] = []
    for group in groups:
        config.stash[FINISHED] += group.results
        for gain in group.gains():
            config.stash[GAINS].append((group, gain))
    if not runs:
        config.stash[FINISHED].append(FinishedRun(Run(TIMED_RUN)))
    config.option.benchmark_save_data = True  # a result without its samples cannot be compared


def _external_models(config: pytest.Config) -> list[models.BenchmarkModel]:
    """The models that --model names."""
    paths = list(map(Path, config.getoption("model", [])))
    if not paths:
        return []
    input_range, mean, std, labels = map(config.getoption, ("input_range", "mean", "std", "labels"))
    class_order = tuple(scoring.parse_class_order(labels)) if labels else None
    data = one_of("data set", config.getoption("data"), dataset.NAMES)
    preprocessing = parse_preprocessing(input_range, mean, std)
    return models.external_models(paths, models.ExternalModelOptions(preprocessing, class_order, data))


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"cifar-bench model: {model.name} ({model.origin})" for model in config.stash[SESSION].models.values()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    session = config.stash[SESSION]
    chosen = list(session.models.values())
    cases: dict[str, Callable[[], Sequence[Any]]] = {
        "latency_case": lambda: grid.inference_cases(session.grid, chosen, _devices(config)),
        "cold_start_case": lambda: grid.cold_start_cases(session.grid, chosen),
        "training_case": lambda: grid.training_cases(session.grid, _devices(config)),
        "network": lambda: grid.first_step_networks(session.grid),
        "policy": lambda: [name for name in POLICIES if name != "none"],
        "group_and_gain": lambda: config.stash[GAINS],
        "finished_run": lambda: config.stash[FINISHED],
    }
    for name in set(metafunc.fixturenames) & set(cases):
        metafunc.parametrize(name, cases[name]() or [NO_RUNS if name == "finished_run" else NO_PAIRS], ids=_case_id)


def _case_id(value: Any) -> str:
    if isinstance(value, FinishedRun):
        return value.run.path.name
    if isinstance(value, tuple):
        _, gain = value
        return f"{gain.network}-{gain.augment}"
    return str(value)


def _devices(config: pytest.Config) -> list[str]:
    device = config.getoption("device", None)
    if device in ("cpu", "gpu"):
        return [device]
    return ["cpu", "gpu"] if device == "all" or hardware.gpu() else ["cpu"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which cases were selected: a worker measures all of its own at once."""
    benchmark_session = session.config.stash[SESSION]
    inference, training, formats = [], [], set()
    for item in session.items:
        parameters = getattr(item, "callspec", None) and item.callspec.params  # type: ignore[attr-defined]
        for name, case in (parameters or {}).items():
            if name == "latency_case":
                inference.append(case)
            if name == "training_case":
                training.append(case)
            if name in ("latency_case", "cold_start_case"):
                formats.add(case.format)
    benchmark_session.inference, benchmark_session.training = inference, training
    benchmark_session.formats = formats


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    return request.config.stash[SESSION]


@pytest.fixture(scope="session")
def inference(session: Session) -> InferenceBenchmark:
    return InferenceBenchmark(session)


@pytest.fixture(scope="session")
def training(session: Session) -> TrainingBenchmark:
    return TrainingBenchmark(session)


@pytest.fixture
def record(benchmark: BenchmarkFixture) -> Callable[[Measure], None]:
    """Hand what a worker measured to pytest-benchmark; or fail or skip with the reason, in a sentence."""

    def record_row(measure: Measure) -> None:
        seconds, row = _measured(measure)
        replay.feed(seconds)
        benchmark.group = row["kind"]
        benchmark.pedantic(lambda: None, rounds=len(seconds), iterations=1)
        benchmark.extra_info.update(row)

    return record_row


def _measured(measure: Measure) -> tuple[list[float], Row]:
    try:
        return measure()
    except NotAvailableError as error:
        end, reason = pytest.skip, str(error)
    except CifarError as error:
        end, reason = partial(pytest.fail, pytrace=False), str(error)
    return end(reason)  # outside of the handlers, so that no traceback is printed


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["cifar"] = measure.machine_facts(config.stash[SESSION])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Before pytest-benchmark saves: the matrix peak once more, and every row's share of it."""
    benchmark_session = session.config.stash[SESSION]
    benchmark_session.end(interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
    rows = [benchmark.extra_info for benchmark in session.config._benchmarksession.benchmarks]  # type: ignore[attr-defined]
    measure.add_peak_fractions(benchmark_session, rows)
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows, missing = [], []
    for benchmark in config._benchmarksession.benchmarks:  # type: ignore[attr-defined]
        if benchmark.extra_info:
            rows.append({"name": benchmark.name, **benchmark.extra_info})
    for outcome in ("failed", "skipped"):
        for entry in terminalreporter.stats.get(outcome, []):
            missing.append(Missing(entry.nodeid.partition("::")[2], outcome, _reason(entry)))
    if not rows and not missing:
        return
    benchmark_session = config.stash[SESSION]
    measurements = Measurements(rows, missing, benchmark_session.peaks)
    terminalreporter.write_line("")
    report.show(measurements, terminalreporter._tw._file)
    folder = config.getoption("report_to", None)
    if folder:
        written = report.write(measurements, measure.machine_facts(benchmark_session), Path(folder))
        terminalreporter.write_line(f"Written: {', '.join(map(os.fspath, written))}")


def _reason(entry: Any) -> str:
    text = entry.longrepr[2] if isinstance(entry.longrepr, tuple) else str(entry.longrepr)
    return text.strip().removeprefix("Skipped: ")
