"""What is measured, as data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import psutil

from cifar.benchmark.models import KERAS_JAX, BenchmarkModel
from cifar.benchmark.training_methods import JAX, OURS, TRAINING_METHODS
from cifar.benchmark.workload import Precision
from cifar.formats import FORMATS
from cifar.inference.runtimes import RUNTIMES
from cifar.networks import PUBLISHED

POLICIES = ("none", "shift-flip", "shift-flip-rotate")
ALL_THREADS = psutil.cpu_count() or 1
ALL_RUNTIMES = tuple(RUNTIMES)
TRAINING_THREADS = psutil.cpu_count(logical=False) or ALL_THREADS  # of every training method, as PyTorch chooses


@dataclass(frozen=True)
class TrainingRows:
    """Which rows of training a network has in a precision.

    Attributes:
        network: by name.
        precision: of the operations.
        policies: of `cifar train`.
        peer_policies: under which the other training methods are measured too.
        batch_size: of every method; None for that of our recipe.
    """

    network: str
    precision: Precision
    policies: tuple[str, ...]
    peer_policies: tuple[str, ...]
    batch_size: int | None = None


@dataclass(frozen=True)
class Grid:
    """How much of everything is measured.

    Attributes:
        batch_sizes, threads: of inference.
        training: the rows of training.
        processes: share the samples of a case of inference: what differs between them is noise.
        rounds: of training, each of a few steps of every method.
        budget: seconds of sampling per case of inference, shared by the models.
        round_seconds: of warm-up, and of timed steps, in a round of a training method.
        session_seconds: after which no third round of training and no second cold start of a file begins.
        thorough_models: of how many models, the first ones, predictions and cold starts are measured too; of the
            others accuracy is as recorded. None for all.
        try_batch_sizes: whether a peer is timed at the fastest of several batch sizes, and not at ours.
        emulated: whether training in bfloat16 is measured on a processor without units for it.
        jax: whether JAX is measured on the CPU too; on a GPU it always is.
        runtimes: in which the files of the thorough models are measured, keys of RUNTIMES; of other models, and where
            it is None, each format in its own alone, and the Keras model.
        predict_in_all_runtimes: whether all test images are predicted in each of them, and not in the own one alone:
            `cifar parity` does that, and what it kept is taken.
    """

    batch_sizes: tuple[int, ...]
    threads: tuple[int, ...]
    training: tuple[TrainingRows, ...]
    processes: int
    rounds: int
    budget: float
    round_seconds: float
    session_seconds: float = math.inf
    thorough_models: int | None = None
    try_batch_sizes: bool = False
    emulated: bool = False
    jax: bool = False
    runtimes: tuple[str, ...] | None = None
    predict_in_all_runtimes: bool = False


PEER_POLICIES = ("none", "shift-flip")
LARGE_BATCH = 512  # of airbench94's network: half of its recipe's, so that a step takes under a second
DEFAULT = Grid(
    batch_sizes=(1, 32),
    threads=(1,),
    training=(
        TrainingRows("first", "float32", POLICIES, PEER_POLICIES),
        TrainingRows("first", "bfloat16", PEER_POLICIES, ("none",)),
        TrainingRows("airbench94", "bfloat16", ("none",), ("none",), LARGE_BATCH),
    ),
    processes=2,
    rounds=3,
    budget=1.0,
    round_seconds=1.0,
    session_seconds=220.0,
    thorough_models=1,
    runtimes=ALL_RUNTIMES,
)
FULL = Grid(
    batch_sizes=(1, 32, 256),
    threads=tuple(sorted({1, ALL_THREADS})),
    training=(
        *(TrainingRows(network, "float32", POLICIES, POLICIES) for network in PUBLISHED),
        *(TrainingRows(network, "bfloat16", POLICIES, POLICIES) for network in PUBLISHED),
        TrainingRows("airbench94", "float32", ("none",), ("none",), LARGE_BATCH),
        TrainingRows("airbench94", "bfloat16", ("none",), ("none",), LARGE_BATCH),
    ),
    processes=5,
    rounds=12,
    budget=4.0,
    round_seconds=20.0,
    try_batch_sizes=True,
    emulated=True,
    jax=True,
    runtimes=ALL_RUNTIMES,
    predict_in_all_runtimes=True,
)


@dataclass(frozen=True)
class Case:
    """A row of inference or of cold start; its runtime is None for the format's own."""

    model: str
    format: str
    batch: int
    threads: int
    device: str
    runtime: str | None = None

    def __str__(self) -> str:
        """As pytest names it."""
        ran = f"{self.format}-{self.runtime}" if self.runtime else self.format
        return f"{self.model}-{ran}-b{self.batch}-t{self.threads}-{self.device}"


@dataclass(frozen=True)
class TrainingCase:
    """A row of training; its batch size is None for that of our recipe."""

    network: str
    policy: str
    method: str
    precision: Precision = "float32"
    batch_size: int | None = None

    def __str__(self) -> str:
        """As pytest names it."""
        name = f"{self.network}-{self.policy}-{self.method}"
        return name if self.precision == "float32" else f"{name}-{self.precision}"


def inference_cases(grid: Grid, models: Sequence[BenchmarkModel], devices: Sequence[str]) -> list[Case]:
    """Return every format of every model and runtime, in every batch size, number of threads and device."""
    cases = []
    for place, model in enumerate(models):
        is_thorough = grid.thorough_models is None or place < grid.thorough_models
        for format_name in model.format_names:
            for runtime in _runtimes(grid, format_name, is_thorough):
                for batch_size, threads, device in product(grid.batch_sizes, grid.threads, devices):
                    case = Case(model.name, format_name, batch_size, threads, device, runtime)
                    if _is_wanted(grid, case):
                        cases.append(case)
    return cases


def _runtimes(grid: Grid, format_name: str, is_thorough: bool) -> list[str | None]:
    """The runtimes in which a format is measured; None is its own."""
    if grid.runtimes is None or not is_thorough or format_name not in FORMATS:
        return [None]
    own = FORMATS[format_name].runtime
    are_named = grid.runtimes != ALL_RUNTIMES
    readers = [name for name in grid.runtimes if RUNTIMES[name].reads(format_name, are_named)]
    return [None if name == own else name for name in readers]


def _is_wanted(grid: Grid, case: Case) -> bool:
    """Whether a case is measured: JAX where the grid says so, and what a runtime can do."""
    if case.format == KERAS_JAX:
        return grid.jax or case.device == "gpu"
    if case.runtime is None:
        return True
    runtime = RUNTIMES[case.runtime]
    if case.device not in runtime.providers or runtime.threads not in (None, case.threads):
        return False
    return case.batch == 1 or not runtime.single_image


def cold_start_cases(grid: Grid, models: Sequence[BenchmarkModel]) -> list[Case]:
    """Return every format of the models whose cold starts are measured, once for each number of threads."""
    cases = inference_cases(grid, models[: grid.thorough_models], ["cpu"])
    return [case for case in cases if case.batch == grid.batch_sizes[0]]


def training_cases(grid: Grid, devices: Sequence[str]) -> list[TrainingCase]:
    """Return every training method under every policy that it supports."""
    cases = []
    for rows in grid.training:
        for policy in rows.policies:
            for name in _methods(rows, policy, with_jax=grid.jax or "gpu" in devices):
                cases.append(TrainingCase(rows.network, policy, name, rows.precision, rows.batch_size))
    return cases


def first_step_networks(grid: Grid) -> list[str]:
    """Return the networks of which the time to the first step is measured: the published ones."""
    return [network for network in PUBLISHED if network in {rows.network for rows in grid.training}]


def _methods(rows: TrainingRows, policy: str, with_jax: bool) -> list[str]:
    """The training methods that are measured under a policy."""
    names = []
    for name, method in TRAINING_METHODS.items():
        if policy not in method.policies or rows.precision not in method.precisions:
            continue
        wanted = {OURS: True, JAX: with_jax}.get(name, policy in rows.peer_policies)
        if wanted:
            names.append(name)
    return names
