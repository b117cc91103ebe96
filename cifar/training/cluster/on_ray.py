"""A grid on Ray: a task per run, which Ray puts on a node with enough cores, and again on another if that node dies.

docs.ray.io, Ray Core: tasks, fault tolerance, label selectors.
"""

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar.errors import CifarError, NotFoundError, UsageError, first_line
from cifar.system import environment
from cifar.training.cluster.collected import PackedRun, pack, unpack
from cifar.training.cluster.task import Outcome, Progress, Task, train

RETRIES = 10  # of a run whose node died
OBJECT_STORE_BYTES = 100_000_000  # Ray's least is 78,643,200; a packed run has up to 30 million
NODE_ID = "ray.io/node-id"  # the label that Ray gives every node
SET_BY_RAY = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", *environment.DECISIVE_VARIABLES)
"""Variables that training must have as this process has them: Ray sets some of them for its workers."""
WAIT_SECONDS = 1.0
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        id: Ray's.
        name: of the host.
        cores, gpus: that Ray may use.
        key: what a run's bits depend on there, as JSON.
        problem: why no run can be trained there; None where one can.
    """

    id: str
    name: str
    cores: int
    gpus: int
    key: str
    problem: str | None


@dataclass(frozen=True)
class DataCheck:
    """Which data a node must have: by name, in a folder that may be named, of a digest."""

    name: str
    folder: Path | None
    sha256: str


@contextmanager
def cluster(address: str | None, here: bool, note: Callable[[str], None]) -> Iterator[None]:
    """Join a Ray cluster, or start Ray on this machine, while the block runs.

    Args:
        address: of the cluster; None for the one that is there, else this machine.
        here: whether to start Ray on this machine, whatever is there.
        note: is called with what the user should know.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("Ray is not installed: pip install 'cifar-bench[ray]'.") from None
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            _require_reachable(address)
        joined = None if here else address or _cluster_of_this_machine()
        if joined:
            try:
                ray.init(address=joined, **quiet)
            except ConnectionError as error:
                raise UsageError(f"{joined}: there is no Ray cluster: {first_line(error)}") from error
        else:
            if not here:
                note("There is no Ray cluster here: it is started on this machine alone.")
            ray.init(
                address="local",
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
        yield
    finally:
        ray.shutdown()


def _cluster_of_this_machine() -> str | None:
    """Return the address that RAY_ADDRESS names, or that Ray has noted; None if nothing listens there any more."""
    noted = Path(tempfile.gettempdir(), "ray", "ray_current_cluster")
    address = os.environ.get("RAY_ADDRESS") or (noted.read_text().strip() if noted.is_file() else "")
    try:
        _require_reachable(address)
    except UsageError:
        return None
    return address


def _require_reachable(address: str) -> None:
    """Raise UsageError if nothing listens at HOST:PORT: Ray would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"{address}: there is no Ray cluster: {first_line(error)}.") from error


def probe(data: DataCheck, threads: int) -> list[Node]:
    """Ask every node for what decides a run's bits there, and whether it has the data."""
    import ray

    ask = ray.remote(num_cpus=0)(_describe_node)
    waiting = {}
    for node in ray.nodes():
        if node["Alive"]:
            waiting[ask.options(label_selector={NODE_ID: node["NodeID"]}).remote(data, threads, _variables())] = node
    found = []
    for reply, node in waiting.items():
        resources = node["Resources"]
        try:
            key, problem = ray.get(reply)
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            key, problem = "", f"cifar-bench cannot start there ({lines[-1]})."
        found.append(
            Node(
                node["NodeID"],
                node["NodeManagerHostname"],
                int(resources.get("CPU", 0)),
                int(resources.get("GPU", 0)),
                key,
                problem,
            )
        )
    return found


def choose(nodes: Sequence[Node], tasks: Sequence[Task], mixed: bool, note: Callable[[str], None]) -> list[Node]:
    """Return the nodes on which runs are trained: of one kind, unless runs of several may be mixed.

    Raises:
        NotFoundError: no node has the data.
        UsageError: no node has the cores or the GPU that a run needs.
    """
    for node in nodes:
        if node.problem:
            note(f"{node.name} is left out: {node.problem}")
    usable = [node for node in nodes if node.problem is None]
    if not usable:
        raise NotFoundError(f"No node can train: {nodes[0].problem}")
    kinds: dict[str, list[Node]] = {}
    for node in usable:
        kinds.setdefault(node.key, []).append(node)
    chosen = usable
    if len(kinds) > 1 and mixed:
        note(f"The nodes are of {len(kinds)} kinds: runs of different ones need not be equal to the bit.")
    elif len(kinds) > 1:
        chosen = max(kinds.values(), key=lambda members: sum(node.cores for node in members))
        note(
            f"The nodes are of {len(kinds)} kinds, on which runs need not be equal to the bit: {len(chosen)} of "
            f"{len(usable)} nodes are of the most common one and are taken. --mixed takes all."
        )
    threads = max(task.threads for task in tasks)
    most = max(node.cores for node in chosen)
    if threads > most:
        raise UsageError(f"A run needs {threads} cores, and no node has more than {most}: give --threads.")
    if any(task.gpu for task in tasks) and not any(node.gpus for node in chosen):
        raise UsageError("A run needs a GPU, and no node has one.")
    return chosen


def train_all(
    tasks: Sequence[Task],
    runs: Path,
    nodes: Sequence[Node],
    collect: bool,
    show: Callable[[Mapping[str, Progress], Mapping[str, Outcome]], None],
) -> dict[str, Outcome]:
    """Train a grid in a joined cluster; return how each run ended, by its name.

    Args:
        tasks: the grid.
        runs: the folder of the runs, which all nodes share; with `collect` this machine's alone.
        nodes: those that are used.
        collect: whether nodes train in folders of their own, and finished runs come back through Ray.
        show: is called about every second with how far the runs are, and how those that are done ended.
    """
    import ray

    monitor = _start_monitor()
    selector = {NODE_ID: f"in({','.join(node.id for node in nodes)})"}
    call = ray.remote(max_retries=RETRIES)(_train_on_node)
    waiting = {}
    for task in tasks:
        options = {"num_cpus": task.threads, "num_gpus": int(task.gpu), "label_selector": selector, "name": task.name}
        shared = None if collect else runs
        waiting[call.options(**options).remote(task, shared, _variables(), monitor)] = task
    outcomes: dict[str, Outcome] = {}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=WAIT_SECONDS)
        for reply in done:
            outcomes[waiting.pop(reply).name] = _outcome(reply, runs)
        show(ray.get(monitor.read.remote()), outcomes)
    return outcomes


def _outcome(reply: Any, runs: Path) -> Outcome:
    """How a task ended; a run that came back is written."""
    import ray

    try:
        outcome, packed = ray.get(reply)
        if packed is not None:
            unpack(packed, runs)
    except ray.exceptions.RayError as error:
        return Outcome("", 1, f"lost with its node {RETRIES + 1} times: {first_line(error)}")
    except CifarError as error:
        return Outcome("", error.exit_code, str(error))
    return Outcome(outcome.node, outcome.code, outcome.message)


def _variables() -> dict[str, str | None]:
    """The variables that decide, as this process has them."""
    return {name: os.environ.get(name) for name in SET_BY_RAY}


class _Monitor:
    """An actor: what the tasks report."""

    def __init__(self) -> None:
        self._progress: dict[str, Progress] = {}

    def update(self, name: str, progress: Progress) -> None:
        self._progress[name] = progress

    def read(self) -> dict[str, Progress]:
        return self._progress


def _start_monitor() -> Any:
    """Start the actor beside this process, whose end is its own."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return ray.remote(num_cpus=0, label_selector={NODE_ID: here})(_Monitor).remote()


def _train_on_node(
    task: Task, runs: Path | None, variables: Mapping[str, str | None], monitor: Any
) -> tuple[Outcome, PackedRun | None]:
    """On a node: train a run, in the shared folder, or in one of its own, from where it comes back."""

    def report(progress: Progress) -> None:
        monitor.update.remote(task.name, progress)

    if runs is not None:
        return train(task, runs, variables, report), None
    with tempfile.TemporaryDirectory(prefix="cifar-sweep-") as folder:
        outcome = train(task, Path(folder), variables, report)
        packed = pack(Path(folder) / task.name) if outcome.code == 0 else None
    return outcome, packed


def _describe_node(data: DataCheck, threads: int, variables: Mapping[str, str | None]) -> tuple[str, str | None]:
    """On a node: what a run's bits depend on, as JSON, and why it cannot train; None where it can."""
    from cifar.data import dataset

    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    key = environment.reproducibility_key(environment.facts(threads))
    problem = None
    try:
        found = dataset.by_name(data.name, data.folder, lambda _note: None, download=False)
        if found.sha256 != data.sha256:
            problem = f"its {data.name} has another SHA-256 than the one here ({found.sha256[:12]})."
    except CifarError as error:
        problem = f"{error} (on {socket.gethostname()})"
    return json.dumps(key, sort_keys=True), problem
