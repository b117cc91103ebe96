"""The nodes of a Ray cluster: what decides a run's bits on each, whether it has the data, and which are taken."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar.errors import CifarError, NotFoundError, UsageError
from cifar.runs.run import folder_of
from cifar.system import environment, files
from cifar.system.json_files import read_json
from cifar.training.cluster.node_data import WantedData, place_on_this_node, receive
from cifar.training.cluster.packed import Packed, pack
from cifar.training.cluster.task import Task

NODE_ID = "ray.io/node-id"  # the label that Ray gives every node
SET_BY_RAY = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", *environment.DECISIVE_VARIABLES)
"""Variables that training must have as this process has them: Ray sets some of them for its workers."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        id: Ray's.
        name: of the host.
        cores, gpus: that Ray may use.
        key: what a run's bits depend on there, as JSON.
        problem: why no run can be trained there; None where one can.
        data: the place of the data that `cifar train` must be told there; None where it finds them by itself.
        lacks_data: whether the problem is that there is no copy of the data, or none with their digest.
    """

    id: str
    name: str
    cores: int
    gpus: int
    key: str
    problem: str | None
    data: Path | None = None
    lacks_data: bool = False


@dataclass(frozen=True)
class Question:
    """What a node is asked.

    Attributes:
        wanted: the data.
        task: one of the runs.
        variables: that training will have.
        token: a file in the folder of runs, which a node must see; None where nodes share no folder.
    """

    wanted: WantedData
    task: Task
    variables: Mapping[str, str | None]
    token: Path | None


def probe(wanted: WantedData, task: Task, shared: Path | None, note: Callable[[str], None]) -> list[Node]:
    """Ask every node for what decides a run's bits there; send the data to those that lack them.

    Args:
        wanted: the data.
        task: one of the runs.
        shared: the folder of runs, which every node must see; None where it is this machine's alone.
        note: is called with a sentence about each node that the data are sent to.

    Raises:
        cifar.errors.StorageError: nothing can be written to `shared`.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    with _token_in(shared) as token:
        question = Question(wanted, task, decisive_variables(task.gpu), token)
        nodes = _ask(alive, question)
        lacking = {node.id for node in nodes if node.lacks_data}
        if not lacking or wanted.copy is None:
            return nodes
        for node in nodes:
            if node.lacks_data:
                note(f"{node.name}: {node.problem} The copy of here is sent there.")
        packed = ray.put(pack(wanted.copy))
        supplied = _ask([node for node in alive if node["NodeID"] in lacking], question, packed)
    return [node for node in nodes if not node.lacks_data] + supplied


@contextmanager
def _token_in(shared: Path | None) -> Iterator[Path | None]:
    """Keep a file in a folder while the block runs."""
    if shared is None:
        yield None
        return
    with files.folder_for(shared), tempfile.NamedTemporaryFile(dir=shared, prefix=".sweep-") as token:
        yield Path(token.name)


def _ask(described: Sequence[Mapping[str, Any]], question: Question, packed: Any = None) -> list[Node]:
    """Ask the nodes that Ray describes so, all at once; `packed` is a copy of the data, in Ray's object store."""
    import ray

    ask = ray.remote(num_cpus=0)(describe_this_node)
    waiting = {}
    for node in described:
        selector = {NODE_ID: node["NodeID"]}
        waiting[ask.options(label_selector=selector).remote(question, packed)] = node
    found = []
    for reply, node in waiting.items():
        try:
            state = ray.get(reply)
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            state = ("", f"cifar-bench cannot start there ({lines[-1]}).", None, False)
        cores, gpus = (int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
        found.append(Node(node["NodeID"], node["NodeManagerHostname"], cores, gpus, *state))
    return found


def describe_this_node(question: Question, packed: Packed | None) -> tuple[str, str | None, Path | None, bool]:
    """Return the key, problem, data and lacks_data of this node, as Node has them; keep the data that are sent."""
    for name, value in question.variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    task, wanted, token = question.task, question.wanted, question.token
    device = "gpu" if task.gpu else "cpu"
    key = key_of(environment.facts(task.recipe.threads, task.recipe.backend, device))
    if token is not None and not token.exists():
        return key, f"it does not share {token.parent} with this machine: give --collect.", None, False
    try:
        if packed is not None:
            receive(wanted, packed)
        return key, None, place_on_this_node(wanted), False
    except CifarError as error:
        return key, str(error), None, True


def key_of(facts: dict[str, Any]) -> str:
    """Return what a run's bits depend on, of the facts about a machine, as JSON."""
    return json.dumps(environment.reproducibility_key(facts), sort_keys=True)


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
    usable = _large_enough(usable, max(task.recipe.threads for task in tasks), any(task.gpu for task in tasks))
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
    return chosen


def _large_enough(nodes: Sequence[Node], threads: int, gpu: bool) -> list[Node]:
    """Return the nodes with the cores, and the GPU, that a run needs.

    Raises:
        UsageError: there is none.
    """
    enough = [node for node in nodes if node.cores >= threads and (node.gpus or not gpu)]
    if enough:
        return enough
    most = max(node.cores for node in nodes)
    if threads > most:
        raise UsageError(f"A run needs {threads} cores, and no node has more than {most}: give --threads.")
    if not any(node.gpus for node in nodes):
        raise UsageError("A run needs a GPU, and no node has one.")
    raise UsageError(f"A run needs a GPU and {threads} cores, and no node has both: give --threads.")


def that_can_resume(task: Task, runs: Path, nodes: Sequence[Node]) -> Sequence[Node]:
    """Return the nodes of the kind on which a run was begun; all, if there is no such kind or run."""
    try:
        key = key_of(read_json(folder_of(runs, task.recipe) / "environment.json"))
    except (CifarError, LookupError, TypeError, AttributeError):  # it was not begun, or `cifar train` will say more
        return nodes
    return [node for node in nodes if node.key == key] or nodes


def decisive_variables(gpu: bool) -> dict[str, str | None]:
    """The variables that decide, as this process has them; on a GPU not that by which Ray gives each run its own."""
    return {name: os.environ.get(name) for name in SET_BY_RAY if not (gpu and name == "CUDA_VISIBLE_DEVICES")}
