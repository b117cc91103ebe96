"""Options, fixtures and hooks of the benchmarks: pytest-benchmark's own, with our columns, facts and table."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cifar.analysis import summary
from cifar.benchmark import grid, models, report
from cifar.benchmark.inference import Inference
from cifar.benchmark.session import NotAvailableError, Row, Session
from cifar.benchmark.tables import Result
from cifar.benchmark.timing import Replay
from cifar.benchmark.training import Training
from cifar.compare import results
from cifar.data import dataset
from cifar.errors import CifarError, one_of
from cifar.inference import scoring
from cifar.recipes import POLICIES
from cifar.system import environment, hardware

DEVICES = ("cpu", "gpu", "all")
SESSION = pytest.StashKey[Session]()
GAINS = pytest.StashKey[list[tuple[summary.Group, summary.Gain]]]()
NO_PAIRS = pytest.param(None, marks=pytest.mark.skip(reason="no plain and augmented runs of one network (--run)"))
replay = Replay()
MARKS = pytest.mark.benchmark(timer=replay)

Measure = Callable[[], tuple[list[float], Row]]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cifar-bench")
    group.addoption("--run", nargs="+", action="extend", default=[], metavar="DIR", help="Run folders to measure.")
    group.addoption(
        "--model", nargs="+", action="extend", default=[], metavar="FILE", help="Model files of anybody's to measure."
    )
    for name, metavar in (("input-range", "RANGE"), ("mean", "R,G,B"), ("std", "R,G,B"), ("labels", "NAMES")):
        group.addoption(f"--{name}", default=None, metavar=metavar, help="Of --model, as for `cifar evaluate`.")
    group.addoption("--data", default="cifar10", metavar="NAME", help="For --model: cifar10 (default) or synthetic.")
    group.addoption("--full", action="store_true", help="Every batch size, number of threads, network and policy.")
    group.addoption("--device", default=None, metavar="NAME", help="cpu, gpu or all. Default: whatever is there.")
    group.addoption("--order-seed", type=int, default=0, metavar="N", help="Seed of the order of cases. Default: 0.")
    group.addoption(
        "--report-to", default=None, metavar="DIR", help="Write the table as Markdown, JSON and PNG there."
    )


def pytest_configure(config: pytest.Config) -> None:
    device = config.getoption("device", None)
    folders = [Path(folder) for folder in config.getoption("run", [])]
    try:
        if device is not None:
            one_of("device for --device", device, DEVICES)
        chosen = _external_models(config) or models.choose(folders)
        groups = summary.summarise([model.run for model in chosen if model.run]).groups
    except CifarError as error:
        raise pytest.UsageError(str(error)) from None
    by_name = {model.name: model for model in chosen}
    config.stash[SESSION] = Session(
        grid.FULL if config.getoption("full", False) else grid.DEFAULT, by_name, config.getoption("order_seed", 0)
    )
    config.stash[GAINS] = [(group, gain) for group in groups for gain in group.gains()]
    config.option.benchmark_save_data = True  # a result without its samples cannot be compared


def _external_models(config: pytest.Config) -> list[models.Model]:
    """The models that --model names."""
    paths = [Path(path) for path in config.getoption("model", [])]
    if not paths:
        return []
    range_, mean, std, labels = (config.getoption(name, None) for name in ("input_range", "mean", "std", "labels"))
    order = tuple(scoring.parse_class_order(labels)) if labels else None
    data = one_of("data set", config.getoption("data"), dataset.NAMES)
    return models.external_models(
        paths, models.ExternalModelOptions(parse_preprocessing(range_, mean, std), order, data)
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"cifar-bench model: {model.name} ({model.origin})" for model in config.stash[SESSION].models.values()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    session = config.stash[SESSION]
    chosen = list(session.models.values())
    cases: dict[str, Callable[[], list[Any]]] = {
        "latency_case": lambda: grid.inference(session.grid, chosen, _devices(config)),
        "start_case": lambda: grid.start(session.grid, chosen),
        "training_case": lambda: grid.training(session.grid, _devices(config)),
        "network": lambda: list(session.grid.networks),
        "policy": lambda: [name for name in POLICIES if name != "none"],
        "gained": lambda: config.stash[GAINS],
    }
    for name in set(metafunc.fixturenames) & set(cases):
        metafunc.parametrize(name, cases[name]() or [NO_PAIRS], ids=_name)


def _name(value: Any) -> str:
    return f"{value[1].network}-{value[1].augment}" if isinstance(value, tuple) else str(value)


def _devices(config: pytest.Config) -> list[str]:
    asked = config.getoption("device", None)
    if asked in ("cpu", "gpu"):
        return [asked]
    return ["cpu", "gpu"] if asked == "all" or hardware.gpu() else ["cpu"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which cases were selected: a worker does all of its own at once."""
    selected = [item.callspec.params for item in session.items if hasattr(item, "callspec")]
    ours = session.config.stash[SESSION]
    ours.inference = [params["latency_case"] for params in selected if "latency_case" in params]
    ours.training = [params["training_case"] for params in selected if "training_case" in params]
    cases = [params.get("latency_case") or params.get("start_case") for params in selected]
    ours.formats = {case.format for case in cases if case}


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    return request.config.stash[SESSION]


@pytest.fixture(scope="session")
def inference(session: Session) -> Inference:
    return Inference(session)


@pytest.fixture(scope="session")
def training(session: Session) -> Training:
    return Training(session)


@pytest.fixture
def record(benchmark: BenchmarkFixture) -> Callable[[Measure], None]:
    """Hand what a worker measured to pytest-benchmark; or fail or skip with the reason, in a sentence."""

    def take(measure: Measure) -> None:
        seconds, row = _measured(measure)
        replay.feed(seconds)
        benchmark.group = row["kind"]
        benchmark.pedantic(lambda: None, rounds=len(seconds), iterations=1)
        benchmark.extra_info.update(row)

    return take


def _measured(measure: Measure) -> tuple[list[float], Row]:
    try:
        return measure()
    except NotAvailableError as reason:
        end, why = pytest.skip, str(reason)
    except CifarError as error:
        end, why = partial(pytest.fail, pytrace=False), str(error)
    return end(why)  # outside of the handler: its traceback is nobody's business


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["cifar"] = _machine(config.stash[SESSION])


def _machine(session: Session) -> dict[str, Any]:
    """Where and under what this session measures."""
    return {
        **environment.facts(grid.ALL_THREADS),
        "format_version": results.FORMAT_VERSION,
        "matrix_peak": {
            str(threads): {"product": peak.product, "flops": peak.flops, "steady": peak.steady}
            for threads, peak in session.peaks.items()
        },
        "order_seed": session.order_seed,
    }


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Before pytest-benchmark saves: the matrix peak once more, and every row's share of it."""
    config = session.config
    ours = config.stash[SESSION]
    ours.end(interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
    for benchmark in config._benchmarksession.benchmarks:  # type: ignore[attr-defined]
        if "threads" in benchmark.extra_info and "images_per_second" in benchmark.extra_info:
            benchmark.extra_info["peak_fraction"] = ours.peak_fraction(benchmark.extra_info)
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    benchmarks = config._benchmarksession.benchmarks  # type: ignore[attr-defined]
    rows = [{"name": benchmark.name, **benchmark.extra_info} for benchmark in benchmarks if benchmark.extra_info]
    missing = [
        (entry.nodeid.partition("::")[2], outcome, _reason(entry))
        for outcome in ("failed", "skipped")
        for entry in terminalreporter.stats.get(outcome, [])
    ]
    if not rows and not missing:
        return
    result = Result(rows, missing, config.stash[SESSION].peaks)
    terminalreporter.write_line("")
    report.show(result, terminalreporter._tw._file)
    folder = config.getoption("report_to", None)
    if folder:
        written = report.write(result, _machine(config.stash[SESSION]), Path(folder))
        terminalreporter.write_line(f"Written: {', '.join(map(os.fspath, written))}")


def _reason(entry: Any) -> str:
    text = entry.longrepr[2] if isinstance(entry.longrepr, tuple) else str(entry.longrepr)
    return text.strip().removeprefix("Skipped: ")
