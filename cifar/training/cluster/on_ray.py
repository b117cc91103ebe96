"""A grid on Ray: a task per run, which Ray puts on a node with enough cores, and again on another if that node dies.

docs.ray.io, Ray Core: tasks, fault tolerance, label selectors.
"""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cifar.errors import CifarError, UsageError, first_line
from cifar.runs.run import Run, locked_run
from cifar.runs.schemas import Identity
from cifar.training.cluster.nodes import NODE_ID, Node, decisive_variables, that_can_resume
from cifar.training.cluster.packed import Packed, pack, unpack
from cifar.training.cluster.task import Outcome, Progress, Task, train

RETRIES = 10  # of a run whose node died
OBJECT_STORE_BYTES = 100_000_000  # Ray's least is 78,643,200; a packed run has up to 30 million
WAIT_SECONDS = 1.0
CONNECT_SECONDS = 5.0
KEEP_SECONDS = 60.0  # to wait for another process that has locked the folder of a run that came back


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
    if not here:
        _show_token()
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
            except (ConnectionError, RuntimeError, ValueError) as error:  # such as of another version of Ray
                raise UsageError(f"{joined}: that Ray cluster cannot be joined: {first_line(error)}") from error
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


def _show_token() -> None:
    """Let Ray show the user's token, if there is one: `ray start` of Ray 2.60 then asks for it.

    docs.ray.io/en/latest/ray-security/token-auth.html
    """
    has_token = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if has_token or Path.home().joinpath(".ray", "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


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
    data = {node.id: node.data for node in nodes}
    call = ray.remote(max_retries=RETRIES)(_train_on_node)
    on_any = _one_of(nodes)
    waiting = {}
    for task in tasks:
        usable = nodes if collect else that_can_resume(task, runs, nodes)
        options = {
            "num_cpus": task.recipe.threads,
            "num_gpus": int(task.gpu),
            "label_selector": on_any if usable is nodes else _one_of(usable),
            "name": task.name,
        }
        shared = None if collect else runs
        waiting[call.options(**options).remote(task, shared, decisive_variables(task.gpu), data, monitor)] = task
    outcomes: dict[str, Outcome] = {}
    progress: Mapping[str, Progress] = {}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=WAIT_SECONDS)
        for reply in done:
            outcomes[waiting.pop(reply).name] = _outcome(reply, runs)
        with suppress(ray.exceptions.RayError):  # the progress is lost then, and not the runs
            progress = ray.get(monitor.read.remote())
        show(progress, outcomes)
    return outcomes


def _one_of(nodes: Sequence[Node]) -> dict[str, str]:
    """Ray's label selector for some nodes."""
    return {NODE_ID: f"in({','.join(node.id for node in nodes)})"}


def _outcome(reply: Any, runs: Path) -> Outcome:
    """How a task ended; a run that came back is written."""
    import ray

    try:
        outcome, collected = ray.get(reply)
        if collected is not None:
            _keep(collected, runs)
    except ray.exceptions.RayTaskError as error:
        return Outcome("", 1, first_line(error.cause))
    except ray.exceptions.TaskUnschedulableError:
        return Outcome("", 1, "no node is left that can train it.")
    except ray.exceptions.RayError as error:
        return Outcome("", 1, f"lost with its node {RETRIES + 1} times: {first_line(error)}")
    except CifarError as error:
        return Outcome.of(error)
    return Outcome(outcome.node, outcome.code, outcome.message)


def _keep(collected: "_Collected", runs: Path) -> None:
    """Write a run that came back to its folder, unless it is there already."""
    with locked_run(runs, collected.identity, timeout=KEEP_SECONDS) as run:
        if not run.finished:
            unpack(collected.packed, run.path)


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


@dataclass(frozen=True)
class _Collected:
    """A run that has ended, from a node that does not share this machine's folder of runs."""

    identity: Identity
    packed: Packed


def _train_on_node(
    task: Task,
    runs: Path | None,
    variables: Mapping[str, str | None],
    data: Mapping[str, Path | None],
    monitor: Any,
) -> tuple[Outcome, _Collected | None]:
    """On a node: train a run, in the shared folder, or in one of its own, from where it comes back.

    Args:
        task: the run.
        runs: the shared folder; None for one of the node's own.
        variables: of the process that trains.
        data: the place of the data on each node, by its id; None where `cifar train` finds them.
        monitor: the actor that is told of every epoch.
    """
    import ray

    here = data[ray.get_runtime_context().get_node_id()]
    if here is not None:
        variables = {**variables, "CIFAR10_DIR": str(here)}

    def report(progress: Progress) -> None:
        monitor.update.remote(task.name, progress)

    try:
        if runs is not None:
            return train(task, runs, variables, report), None
        with tempfile.TemporaryDirectory(prefix="cifar-sweep-") as folder:
            outcome = train(task, Path(folder), variables, report)
            path = Path(folder, task.name)
            outcome = replace(outcome, message=outcome.message.replace(f"{folder}/", ""))
            if outcome.code == 0 or (path / "diverged.json").exists():
                return outcome, _Collected(Run(path).identity, pack(path))
            return outcome, None
    except (CifarError, OSError) as error:
        return Outcome.of(error, socket.gethostname()), None
