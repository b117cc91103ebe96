"""Results of the benchmarks as they lie on disk: rows with their samples, and the machine that gave them.

Two forms are read: what `--benchmark-json` writes (pytest-benchmark's, every sample in it), and report.json of
`--report-to` (the same rows without samples).
"""

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

FORMAT_VERSION = 1
LARGEST = 64 << 20  # bytes: a full grid with every sample has a few megabytes
SHORTEST, LONGEST = 1e-12, 1e9  # seconds: nothing that was measured lies outside
BLOCKS = 3  # into which the samples of a row without repetitions are cut


Rate = Annotated[float, Field(gt=0, lt=1e30)]


class _Peak(BaseModel):
    flops: list[Rate]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="allow")

    KERAS_BACKEND: BackendName = "tensorflow"


class Machine(BaseModel):
    """The part of the machine's facts that is read."""

    model_config = ConfigDict(extra="allow")

    format_version: int
    packages: dict[str, str | None]
    cpu: dict[str, Any]
    gpu: dict[str, str] | None
    settings: _Settings
    matrix_peak: dict[str, _Peak] = {}
    commit: str | None = None
    started: str = ""


def parts(row: str) -> tuple[str, str]:
    """Test and case of a row's name: test_latency[first-onnx-b1-t1-cpu] gives latency, first-onnx-b1-t1-cpu."""
    test, _, case = row.removeprefix("test_").removesuffix("]").partition("[")
    return test.replace("_", " "), case


@dataclass(frozen=True)
class Row:
    """A row of a result.

    Attributes:
        name: as pytest names it.
        facts: the columns.
        samples: seconds, in the order in which they were taken; empty where they were not kept.
    """

    name: str
    facts: dict[str, Any]
    samples: NDArray[np.float64]

    @property
    def kind(self) -> str:
        """`inference`, `start`, `training`, `first-step`, `augmentation` or `gain`."""
        return str(self.facts["kind"])

    @property
    def repeated(self) -> bool:
        """Whether it was measured more than once: by several processes, or in several rounds."""
        repeats = self.facts["repeats"] or []
        return len(repeats) > 1 and sum(repeats) == len(self.samples)

    @cached_property
    def repetitions(self) -> list[NDArray[np.float64]]:
        """The samples of each repetition; of one that was not repeated, blocks of its samples."""
        if self.repeated:
            return np.split(self.samples, np.cumsum(self.facts["repeats"])[:-1])
        return [block for block in np.array_split(self.samples, BLOCKS) if len(block)]


@dataclass(frozen=True)
class Result:
    """A result.

    Attributes:
        path: its file.
        machine: where it was measured.
        brand: the processor's name as pytest-benchmark found it; None where it did not say.
        rows: by name.
    """

    path: Path
    machine: Machine
    brand: str | None
    rows: dict[str, Row]

    @property
    def key(self) -> dict[str, Any]:
        """What decides a training's bits, but for the threads."""
        return environment.key(self.machine.model_dump())

    def peak(self, threads: int | None) -> float | None:
        """The median of the measured matrix peaks at a number of threads, in FLOP/s; None if there is none."""
        measured = self.machine.matrix_peak.get(str(threads))
        return float(np.median(measured.flops)) if measured and measured.flops else None


def read(path: Path) -> Result:
    """Read a result.

    Raises:
        UsageError: it is not there, not a result of ours, or of a newer format.
    """
    content = read_json(path, LARGEST)
    if "benchmarks" in content:
        info = content.get("machine_info")
        machine = info.get("cifar") if isinstance(info, dict) else None
        cpu = info.get("cpu") if isinstance(info, dict) else None
        brand = cpu.get("brand_raw") if isinstance(cpu, dict) else None
        rows = content["benchmarks"]
    else:
        machine, brand, rows = content.get("machine"), None, content.get("rows")
    if not isinstance(machine, dict) or not isinstance(rows, list):
        raise UsageError(f"{path}: not a result of these benchmarks: it lacks the facts of their machine or rows.")
    for versioned in (machine, {**machine, **content}):  # report.json has one of its own
        check_version(versioned, path, FORMAT_VERSION)
    facts = parse(Machine, machine, path)
    made = [_row(row, path) for row in rows]
    return Result(path, facts, brand if isinstance(brand, str) else None, {row.name: row for row in made})


class _Stats(BaseModel):
    data: list[float] = []


class _Facts(BaseModel):
    """The columns that are reckoned with; others are carried along."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    kind: str
    repeats: list[PositiveInt] | None = None
    accuracy: Share | None = None
    agreement: Share | None = None
    n_test: Count | None = None
    file_bytes: Count | None = None
    parameters: Count | None = None
    p50_ms: Size | None = None
    images_per_second: Size | None = None


class _Benchmark(BaseModel):
    name: str
    extra_info: _Facts
    stats: _Stats = _Stats()


def _row(content: Any, path: Path) -> Row:
    """A row in either form."""
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a row is {type(content).__name__}, not a JSON object.")
    if "extra_info" not in content:  # of report.json, where name and columns stand side by side
        columns = {key: value for key, value in content.items() if key != "name"}
        content = {"name": content.get("name"), "extra_info": columns}
    made = parse(_Benchmark, content, path)
    samples = np.array(made.stats.data, np.float64)
    if not ((samples > SHORTEST) & (samples < LONGEST)).all():
        raise UsageError(f"{path}: {made.name}: a sample is not a time.")
    return Row(made.name, made.extra_info.model_dump(), samples)
