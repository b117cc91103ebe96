"""The nodes of a Ray cluster: what decides a run's bits on each, whether it has the data, and which are taken."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar.errors import CifarError, NotFoundError, UsageError
from cifar.system import environment
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


def probe(wanted: WantedData, threads: int, note: Callable[[str], None]) -> list[Node]:
    """Ask every node for what decides a run's bits there; send the data to those that lack them.

    Args:
        wanted: the data.
        threads: of the runs.
        note: is called with a sentence about each node that the data are sent to.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = _ask(alive, wanted, threads)
    lacking = {node.id for node in nodes if node.lacks_data}
    if not lacking or wanted.copy is None:
        return nodes
    for node in nodes:
        if node.lacks_data:
            note(f"{node.name}: {node.problem} The copy of here is sent there.")
    packed = ray.put(pack(wanted.copy))
    supplied = _ask([node for node in alive if node["NodeID"] in lacking], wanted, threads, packed)
    return [node for node in nodes if not node.lacks_data] + supplied


def _ask(described: Sequence[Mapping[str, Any]], wanted: WantedData, threads: int, packed: Any = None) -> list[Node]:
    """Ask the nodes that Ray describes so, all at once; `packed` is a copy of the data, in Ray's object store."""
    import ray

    ask = ray.remote(num_cpus=0)(_describe_node)
    waiting = {}
    for node in described:
        selector = {NODE_ID: node["NodeID"]}
        waiting[ask.options(label_selector=selector).remote(wanted, threads, decisive_variables(), packed)] = node
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


def _describe_node(
    wanted: WantedData, threads: int, variables: Mapping[str, str | None], packed: Packed | None
) -> tuple[str, str | None, Path | None, bool]:
    """On a node: return its key, problem, data and lacks_data, as Node has them; keep the data that are sent."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    key = json.dumps(environment.reproducibility_key(environment.facts(threads)), sort_keys=True)
    try:
        if packed is not None:
            receive(wanted, packed)
        return key, None, place_on_this_node(wanted), False
    except CifarError as error:
        return key, str(error), None, True


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
    threads = max(task.recipe.threads for task in tasks)
    most = max(node.cores for node in chosen)
    if threads > most:
        raise UsageError(f"A run needs {threads} cores, and no node has more than {most}: give --threads.")
    if any(task.gpu for task in tasks) and not any(node.gpus for node in chosen):
        raise UsageError("A run needs a GPU, and no node has one.")
    return chosen


def decisive_variables() -> dict[str, str | None]:
    """The variables that decide, as this process has them."""
    return {name: os.environ.get(name) for name in SET_BY_RAY}
