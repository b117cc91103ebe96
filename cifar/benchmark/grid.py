"""What is measured, as data."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from cifar.benchmark.models import KERAS_JAX, BenchmarkModel
from cifar.benchmark.training_methods import JAX, OURS, TRAINING_METHODS, TrainingMethod
from cifar.networks import PUBLISHED

POLICIES = ("none", "shift-flip", "shift-flip-rotate")
ALL_THREADS = psutil.cpu_count() or 1
TRAINING_THREADS = psutil.cpu_count(logical=False) or ALL_THREADS  # of every training method, as PyTorch chooses


@dataclass(frozen=True)
class Grid:
    """How much of everything is measured.

    Attributes:
        batch_sizes, threads: of inference.
        networks, policies: of training with `cifar train`.
        peer_policies: the policies under which the other training methods are measured too.
        processes: share the samples of a case of inference: what differs between them is noise.
        rounds: of training, each of a few steps of every method.
        budget: seconds of sampling per case of inference, shared by the models.
        jax: whether JAX is measured on the CPU too; on a GPU it always is.
    """

    batch_sizes: tuple[int, ...]
    threads: tuple[int, ...]
    networks: tuple[str, ...]
    policies: tuple[str, ...]
    peer_policies: tuple[str, ...]
    processes: int
    rounds: int
    budget: float
    jax: bool = False


DEFAULT = Grid(
    batch_sizes=(1, 32),
    threads=(1,),
    networks=("first",),
    policies=POLICIES,
    peer_policies=("none", "shift-flip"),
    processes=3,
    rounds=3,
    budget=1.2,
)
FULL = Grid(
    batch_sizes=(1, 32, 256),
    threads=tuple(sorted({1, ALL_THREADS})),
    networks=PUBLISHED,
    policies=POLICIES,
    peer_policies=POLICIES,
    processes=5,
    rounds=12,
    budget=4.0,
    jax=True,
)


@dataclass(frozen=True)
class Case:
    """A row of inference or of cold start."""

    model: str
    format: str
    batch: int
    threads: int
    device: str

    def __str__(self) -> str:
        """As pytest names it."""
        return f"{self.model}-{self.format}-b{self.batch}-t{self.threads}-{self.device}"


@dataclass(frozen=True)
class TrainingCase:
    """A row of training."""

    network: str
    policy: str
    method: str

    def __str__(self) -> str:
        """As pytest names it."""
        return f"{self.network}-{self.policy}-{self.method}"


def inference_cases(grid: Grid, models: Sequence[BenchmarkModel], devices: Sequence[str]) -> list[Case]:
    """Return every format of every model, in every batch size, number of threads and device."""
    cases = []
    for model in models:
        for format_name in model.format_names:
            for batch_size in grid.batch_sizes:
                for threads in grid.threads:
                    for device in devices:
                        if format_name != KERAS_JAX or grid.jax or device == "gpu":
                            cases.append(Case(model.name, format_name, batch_size, threads, device))
    return cases


def cold_start_cases(grid: Grid, models: Sequence[BenchmarkModel]) -> list[Case]:
    """Return every format of every model, once for each number of threads."""
    return [case for case in inference_cases(grid, models, ["cpu"]) if case.batch == grid.batch_sizes[0]]


def training_cases(grid: Grid, devices: Sequence[str]) -> list[TrainingCase]:
    """Return every training method under every policy that it supports."""
    cases = []
    for network in grid.networks:
        for policy in grid.policies:
            for name, method in TRAINING_METHODS.items():
                if _is_measured(grid, name, method, policy, devices):
                    cases.append(TrainingCase(network, policy, name))
    return cases


def _is_measured(grid: Grid, name: str, method: TrainingMethod, policy: str, devices: Sequence[str]) -> bool:
    """Whether a training method is measured under a policy."""
    if policy not in method.policies:
        return False
    if name == JAX:
        return grid.jax or "gpu" in devices
    return name == OURS or policy in grid.peer_policies
