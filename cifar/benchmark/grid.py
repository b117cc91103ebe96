"""What is measured, as data."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from cifar.benchmark.models import KERAS, KERAS_JAX, Model
from cifar.benchmark.training_methods import JAX, OURS, TRAINING_METHODS
from cifar.formats import FORMATS
from cifar.networks import NETWORKS

FORMAT_NAMES = (KERAS, KERAS_JAX, *FORMATS)
POLICIES = ("none", "shift-flip", "shift-flip-rotate")
ALL_THREADS = psutil.cpu_count() or 1


@dataclass(frozen=True)
class Grid:
    """How much of everything is measured.

    Attributes:
        batches, threads: of inference.
        networks, policies: of training by `cifar train`.
        peers: the policies under which the other ways to train are measured too.
        processes: that share the samples of a case of inference: what differs between them is noise.
        rounds: of training, each of a few steps of every way.
        budget: seconds of sampling per case of inference, shared by the models.
        jax: whether JAX is measured on the CPU too; on a GPU it always is.
    """

    batches: tuple[int, ...]
    threads: tuple[int, ...]
    networks: tuple[str, ...]
    policies: tuple[str, ...]
    peers: tuple[str, ...]
    processes: int
    rounds: int
    budget: float
    jax: bool = False


DEFAULT = Grid((1, 32), (1,), ("first",), POLICIES, ("none", "shift-flip"), processes=3, rounds=3, budget=1.2)
FULL = Grid(
    (1, 32, 256),
    tuple(sorted({1, ALL_THREADS})),
    tuple(NETWORKS),
    POLICIES,
    POLICIES,
    processes=5,
    rounds=12,
    budget=4.0,
    jax=True,
)


@dataclass(frozen=True)
class Case:
    """A row of inference."""

    model: str
    format: str
    batch: int
    threads: int
    device: str

    def __str__(self) -> str:
        return f"{self.model}-{self.format}-b{self.batch}-t{self.threads}-{self.device}"


@dataclass(frozen=True)
class TrainingCase:
    """A row of training."""

    network: str
    policy: str
    way: str

    def __str__(self) -> str:
        return f"{self.network}-{self.policy}-{self.way}"


def inference(grid: Grid, models: Sequence[Model], devices: Sequence[str]) -> list[Case]:
    """Every format of every model, in every batch size, number of threads and device."""
    return [
        Case(model.name, name, batch, threads, device)
        for model in models
        for name in (model.paths if model.external else FORMAT_NAMES)
        for batch in grid.batches
        for threads in grid.threads
        for device in devices
        if name != KERAS_JAX or grid.jax or device == "gpu"
    ]


def start(grid: Grid, models: Sequence[Model]) -> list[Case]:
    """Every format of every model, once for each number of threads."""
    return [case for case in inference(grid, models, ["cpu"]) if case.batch == grid.batches[0]]


def training(grid: Grid, devices: Sequence[str]) -> list[TrainingCase]:
    """Every way of training that knows the policy."""
    return [
        TrainingCase(network, policy, name)
        for network in grid.networks
        for policy in grid.policies
        for name, way in TRAINING_METHODS.items()
        if policy in way.policies and (name in (OURS, JAX) or policy in grid.peers)
        if name != JAX or grid.jax or "gpu" in devices
    ]
