"""`cifar bench`: latency, accuracy, memory and cold start of model files on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.evaluate import is_run
from cifar.cli.list_options import name_list, number_list, one_name
from cifar.cli.options import SEVERAL, InputRange, Json, Labels, Mean, Std
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import CifarError, UsageError
from cifar.inference.runtimes import RUNTIMES
from cifar.recipes import MAX_THREADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cifar.benchmark.grid import Grid
    from cifar.benchmark.measurements import Measurements
    from cifar.benchmark.models import BenchmarkModel
    from cifar.formats.manifest import ManifestEntry

DEVICES = ("cpu", "gpu", "all")
MAX_BATCH_SIZE = 4096

BatchSizes = Annotated[
    list[int] | None,
    number_list(
        "--batch-size",
        1,
        MAX_BATCH_SIZE,
        help="Images per batch, such as 1,8. Default: 1,32.",
        show_default=False,
    ),
]
RuntimeThreads = Annotated[
    list[int] | None,
    number_list(
        "--threads", 1, MAX_THREADS, help="Threads of the runtime, several as 1,2. Default: 1.", show_default=False
    ),
]
BenchmarkRuntimes = Annotated[
    list[str] | None,
    name_list(
        "runtime",
        RUNTIMES,
        "--runtime",
        help=f"{', '.join(RUNTIMES)}; {SEVERAL}. Default: the formats' own.",
        show_default=False,
    ),
]


def bench(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Model files or run folders. Default: a small stand-in, trained on synthetic data.",
            metavar="MODEL",
            show_default=False,
        ),
    ] = None,
    input_range: InputRange = None,
    mean: Mean = None,
    std: Std = None,
    labels: Labels = None,
    data: Annotated[
        str,
        one_name("data set", ("cifar10", "synthetic"), "--data", help="Of external files: cifar10 or synthetic."),
    ] = "cifar10",
    batch_sizes: BatchSizes = None,
    threads: RuntimeThreads = None,
    runtimes: BenchmarkRuntimes = None,
    full: Annotated[bool, typer.Option("--full", help="More batch sizes, threads and samples.")] = False,
    device: Annotated[
        str | None,
        one_name("device", DEVICES, "--device", help="cpu, gpu or all. Default: the GPU too, if there is one."),
    ] = None,
    report_to: Annotated[
        Path | None,
        typer.Option("--report-to", help="Write the tables there, as Markdown, JSON and PNG.", metavar="DIR"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Benchmark model files or runs on this machine.

    Latency, images/s, accuracy, agreement, memory and cold start are measured. A run is measured in every format.

    Example: cifar bench model.onnx --batch-size 1,32
    """
    from cifar.benchmark import measure, report
    from cifar.inference.preprocessing import parse_preprocessing
    from cifar.report import progress

    preprocessing = parse_preprocessing(input_range, mean, std)
    models = _find_models(paths or [], preprocessing, labels, data)
    if runtimes:
        _require_readers(models, runtimes)
    chosen, devices = _grid(full, batch_sizes, threads, runtimes), _devices(device)
    total = measure.count_cases(models, chosen, devices)
    with progress.steps(stderr, "Measuring", total) as advance:
        measurements, machine = measure.measure_models(models, chosen, devices, advance)
    if as_json:
        write_json(report.content(measurements, machine))
    else:
        report.show(measurements, stdout.file)
    if report_to:
        written = report.write(measurements, machine, report_to)
        note(f"Written: {', '.join(map(str, written))}")
    _fail_if_any_failed(measurements)


def _find_models(
    paths: "Sequence[Path]", preprocessing: Any, labels: str | None, data: str
) -> "list[BenchmarkModel]":
    """The models that the user names: runs in all formats, files of a manifest, external files; else a stand-in."""
    from cifar.benchmark import models
    from cifar.formats import origin
    from cifar.inference.scoring import parse_class_order

    runs, listed, external = _sort_paths(paths, described=bool(preprocessing or labels))
    if not paths:
        note("No model is named: a small stand-in is trained on synthetic data first.")
        return models.find_models([])
    for path in models.unknown_programs([*external, *[path for path, _ in listed]], runs):
        note(f"{path} is {origin.NOTE}")
    class_order = tuple(parse_class_order(labels)) if labels else None
    options = models.ExternalModelOptions(preprocessing, class_order, data)
    chosen = models.find_models(runs) if runs else []
    chosen += models.listed_models(listed)
    chosen += models.external_models(external, options)
    _require_distinct_names(chosen)
    return chosen


def _sort_paths(
    paths: "Sequence[Path]", described: bool
) -> "tuple[list[Path], list[tuple[Path, ManifestEntry]], list[Path]]":
    """Sort paths into runs, files with an entry in the manifest beside them, and external files.

    A file whose preprocessing or labels the user describes is an external one.
    """
    from cifar.formats import manifest

    runs: list[Path] = []
    listed: list[tuple[Path, ManifestEntry]] = []
    external: list[Path] = []
    for path in dict.fromkeys(paths):
        if is_run(path):
            runs.append(path)
            continue
        entry = None if described else manifest.verify_checksum(path)
        if entry is None:
            external.append(path)
        else:
            listed.append((path, entry))
    return runs, listed, external


def _require_distinct_names(models: "Sequence[BenchmarkModel]") -> None:
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Two of the models are called {name}: measure them one after the other.")


def _require_readers(models: "Sequence[BenchmarkModel]", runtimes: list[str]) -> None:
    """Check that each format of the named files is read by one of the named runtimes."""
    from cifar.formats import FORMATS
    from cifar.inference.runtimes import check_runtime

    for model in models:
        for format_name in model.paths:
            if format_name in FORMATS and not any(format_name in RUNTIMES[name].formats for name in runtimes):
                check_runtime(runtimes[0], format_name)


def _grid(full: bool, batch_sizes: list[int] | None, threads: list[int] | None, runtimes: list[str] | None) -> "Grid":
    from dataclasses import replace

    from cifar.benchmark import grid

    chosen = grid.FULL if full else replace(grid.DEFAULT, thorough_models=None)
    chosen = replace(chosen, runtimes=tuple(runtimes) if runtimes else None, predict_in_all_runtimes=True)
    if batch_sizes:
        chosen = replace(chosen, batch_sizes=tuple(sorted(set(batch_sizes))))
    if threads:
        chosen = replace(chosen, threads=tuple(sorted(set(threads))))
    return chosen


def _devices(device: str | None) -> list[str]:
    from cifar.system import hardware

    if device in ("cpu", "gpu"):
        return [device]
    if device == "all" or hardware.gpu():
        return ["cpu", "gpu"]
    return ["cpu"]


def _fail_if_any_failed(measurements: "Measurements") -> None:
    failed = [missing for missing in measurements.missing if missing.outcome == "failed"]
    if failed:
        raise CifarError(f"{len(failed)} of the rows failed; the first: {failed[0].case}: {failed[0].reason}")
