"""Benchmark results on disk: rows with their samples, and the machine that measured them.

Two forms are read: the file of `--benchmark-json` (written by pytest-benchmark, with every sample), and the
report.json of `--report-to` (the same rows without samples).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from cifar.errors import UsageError
from cifar.system import environment
from cifar.system.environment import BackendName
from cifar.system.json_files import Count, Share, Size, check_version, parse, read_json

FORMAT_VERSION = 2
MAX_BYTES = 64 << 20  # a full grid with every sample takes a few megabytes
MIN_SECONDS, MAX_SECONDS = 1e-12, 1e9  # every measured time lies between them

Rate = Annotated[float, Field(gt=0, lt=1e30)]


class MatrixPeak(BaseModel):
    """The matrix peak at a number of threads: FLOP/s, each time it was measured."""

    flops: list[Rate]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="allow")

    KERAS_BACKEND: BackendName = "tensorflow"


class Machine(BaseModel):
    """The machine of a benchmark result, as far as comparisons need it."""

    model_config = ConfigDict(extra="allow")

    format_version: int
    packages: dict[str, str | None]
    cpu: dict[str, Any]
    gpu: dict[str, str] | None
    settings: _Settings
    matrix_peak: dict[str, MatrixPeak] = {}
    commit: str | None = None
    started: str = ""


class Columns(BaseModel):
    """The columns of a row that comparisons and trends need; other columns of the file are ignored.

    Attributes:
        kind: `inference`, `cold_start`, `training`, `first-step`, `augmentation`, `gain`,
            `time-to-accuracy` or `report-page`.
        repeats: samples of each process that measured the row; None where one did.
        correct_mask: which test images are classified correctly, packed by `classification.pack_mask`.
        agreement: share of images with the same top class as the Keras model.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    kind: str
    repeats: list[PositiveInt] | None = None
    model: str | None = None
    format: str | None = None
    runtime: str | None = None
    network: str | None = None
    augment: str | None = None
    seed: Count | None = None
    threads: Count | None = None
    device: str | None = None
    batch: Count | None = None
    data_sha256: str | None = None
    weights_sha256: str | None = None
    n_test: Count | None = None
    accuracy: Share | None = None
    correct_mask: str | None = None
    agreement: Share | None = None
    file_bytes: Count | None = None
    parameters: Count | None = None
    p50_ms: Size | None = None
    images_per_second: Size | None = None


@dataclass(frozen=True)
class BenchmarkRow:
    """A row of a benchmark result.

    Attributes:
        name: the name of its pytest case.
        columns: its figures and settings.
        sessions: of each session that measured it the samples, (N,) float64, seconds, in the order of measurement;
            empty where they were not kept.
    """

    name: str
    columns: Columns
    sessions: Sequence[NDArray[np.float64]]

    @cached_property
    def samples(self) -> NDArray[np.float64]:
        """The samples of all sessions, (N,) float64, seconds."""
        return np.concatenate(self.sessions)

    @cached_property
    def processes(self) -> list[NDArray[np.float64]]:
        """The samples of each process of a single session.

        A training row has one process; where such a row has `repeats`, they are its rounds.
        """
        repeats = self.columns.repeats or []
        if self.columns.kind == "training" or sum(repeats) != len(self.samples):
            return [self.samples]
        ends = np.cumsum(repeats)
        return np.split(self.samples, ends[:-1])


@dataclass(frozen=True)
class BenchmarkResult:
    """A benchmark result.

    Attributes:
        path: its file.
        machine: the machine that measured it.
        cpu_brand: the processor's name as pytest-benchmark reports it; None where it is not known.
        rows: by name.
    """

    path: Path
    machine: Machine
    cpu_brand: str | None
    rows: dict[str, BenchmarkRow]

    @property
    def reproducibility_key(self) -> dict[str, Any]:
        """What a training's bits depend on, except for the number of threads."""
        return environment.reproducibility_key(self.machine.model_dump())

    def peak_flops(self, threads: int | None) -> float | None:
        """The median of the measured matrix peaks at a number of threads, in FLOP/s; None if there is none."""
        measured = self.machine.matrix_peak.get(str(threads))
        if measured is None or not measured.flops:
            return None
        return float(np.median(measured.flops))


def split_row_name(name: str) -> tuple[str, str]:
    """The test and the case of a row: `test_latency[first-onnx-b1]` gives `latency`, `first-onnx-b1`."""
    test, _, case = name.removeprefix("test_").removesuffix("]").partition("[")
    return test.replace("_", " "), case


def read(path: Path) -> BenchmarkResult:
    """Read a benchmark result.

    Raises:
        UsageError: the file does not exist, is not a benchmark result, or has another format version.
    """
    content = read_json(path, MAX_BYTES)
    cpu_brand = None
    if "benchmarks" in content:
        machine, cpu_brand = _pytest_benchmark_machine(content.get("machine_info"))
        rows = content["benchmarks"]
    else:
        machine, rows = content.get("machine"), content.get("rows")
    if not isinstance(machine, dict) or not isinstance(rows, list):
        raise UsageError(f"{path}: not a benchmark result: it lacks the facts of its machine or its rows.")
    check_version(machine, path, FORMAT_VERSION)
    check_version({**machine, **content}, path, FORMAT_VERSION)  # report.json has a version of its own
    rows_by_name = {}
    for row_content in rows:
        row = _parse_row(row_content, path)
        rows_by_name[row.name] = row
    return BenchmarkResult(path, parse(Machine, machine, path), cpu_brand, rows_by_name)


def _pytest_benchmark_machine(machine_info: Any) -> tuple[Any, str | None]:
    """Our facts of the machine, and the processor's name, from pytest-benchmark's `machine_info`."""
    if not isinstance(machine_info, dict):
        return None, None
    brand = None
    if isinstance(machine_info.get("cpu"), dict):
        brand = machine_info["cpu"].get("brand_raw")
    if not isinstance(brand, str):
        brand = None
    return machine_info.get("cifar"), brand


class _Stats(BaseModel):
    data: list[float] = []


class _Benchmark(BaseModel):
    name: str
    extra_info: Columns
    stats: _Stats = _Stats()


def _parse_row(content: Any, path: Path) -> BenchmarkRow:
    """A row in either form."""
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a row is {type(content).__name__}, not a JSON object.")
    if "extra_info" not in content:  # report.json, where the name is a column
        content = {"name": content.get("name"), "extra_info": content}
    benchmark = parse(_Benchmark, content, path)
    samples = np.array(benchmark.stats.data, np.float64)
    if not ((samples > MIN_SECONDS) & (samples < MAX_SECONDS)).all():
        raise UsageError(f"{path}: {benchmark.name}: a sample is not a time.")
    return BenchmarkRow(benchmark.name, benchmark.extra_info, [samples])
