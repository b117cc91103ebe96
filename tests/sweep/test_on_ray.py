"""Grids on Ray: the bits of `cifar train`, lost nodes, killed drivers, and nodes that differ."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, isolated
from hypothesis import given
from hypothesis import strategies as st

from cifar.errors import DataError, NotFoundError, UsageError
from cifar.runs.run import Run, runs_in
from cifar.training.cluster import on_ray
from cifar.training.cluster.collected import PackedRun, pack, unpack
from cifar.training.cluster.on_ray import Node
from cifar.training.cluster.task import Task

pytest.importorskip("ray", reason="the extra ray is not installed")
GRID = ("--network", "second", "--augment", "none", "--data", "synthetic", "--threads", "1")
LONG = ("--profile", "smoke", "--epochs", "6")


def digests(runs: Path) -> dict[str, tuple[str, str]]:
    """What training gave, by the name of the run."""
    found = {}
    for run in runs_in(runs):
        found[run.path.name] = (run.metrics.weights_sha256, run.metrics.probabilities_sha256)
    return found


def wait_until(condition: Callable[[], Any], seconds: float = 300) -> None:
    for _ in range(int(10 * seconds)):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def start(tmp_path: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start `cifar sweep` in the folder of a test."""
    command = [sys.executable, "-m", "cifar", "sweep", *arguments, "--runs", "r"]
    return subprocess.Popen(
        command,
        cwd=tmp_path,
        env=isolated(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )


def epochs_of(folder: Path) -> list[str]:
    """The lines of the epochs that are done."""
    path = folder / "timing.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_a_grid_on_a_cluster_has_the_bits_of_train(
    two_nodes: tuple[Any, list[Any]], cifar: Command, tmp_path: Path
) -> None:
    cluster, _ = two_nodes
    seeds = ("--epochs", "1", "--seed", "0-3")
    swept = cifar("sweep", *GRID, *seeds, "--on", f"ray={cluster.address}", "--runs", "r", "--json")
    assert swept.code == 0, swept.err
    assert [run["status"] for run in swept.json["runs"]] == ["finished"] * 4
    trained = cifar("train", *GRID, *seeds, "--runs", "t", "--train-only")
    assert trained.code == 0, trained.err
    assert digests(tmp_path / "r") == digests(tmp_path / "t")
    for name in ("variables", "settings"):
        of_ray, without = (Run(tmp_path / folder / "second-none-s0").environment[name] for folder in "rt")
        assert of_ray == without
    again = cifar("sweep", *GRID, *seeds, "--on", f"ray={cluster.address}", "--runs", "r")
    assert again.code == 0
    assert "4 of 4 runs are finished already." in again.err


def test_runs_of_nodes_without_a_shared_folder_come_back(
    two_nodes: tuple[Any, list[Any]], cifar: Command, tmp_path: Path
) -> None:
    cluster, _ = two_nodes
    arguments = (*GRID, "--epochs", "1", "--seed", "0,1")
    swept = cifar("sweep", *arguments, "--on", f"ray={cluster.address}", "--runs", "r", "--collect")
    assert swept.code == 0, swept.err
    assert "2 of 2 runs are in r" in swept.out
    trained = cifar("train", *arguments, "--runs", "t", "--train-only")
    assert trained.code == 0
    assert digests(tmp_path / "r") == digests(tmp_path / "t")


def test_a_node_that_is_lost_in_the_middle_of_a_run_costs_at_most_an_epoch(
    two_nodes: tuple[Any, list[Any]], cifar: Command, tmp_path: Path
) -> None:
    cluster, (_, second) = two_nodes
    sweep = start(tmp_path, *GRID, *LONG, "--seed", "0,1", "--on", f"ray={cluster.address}")
    folders = [tmp_path / "r" / f"second-none-s{seed}" for seed in (0, 1)]
    wait_until(lambda: all(len(epochs_of(folder)) >= 2 for folder in folders))
    before = [epochs_of(folder) for folder in folders]
    cluster.remove_node(second, allow_graceful=False)
    assert sweep.wait(600) == 0, sweep.communicate()[1]
    sweep.communicate()
    for folder, lines in zip(folders, before, strict=True):
        assert epochs_of(folder)[: len(lines)] == lines  # these were not trained again
        assert [json.loads(line)["epoch"] for line in epochs_of(folder)] == [1, 2, 3, 4, 5, 6]
    trained = cifar("train", *GRID, *LONG, "--seed", "0,1", "--runs", "t", "--train-only")
    assert trained.code == 0
    assert digests(tmp_path / "r") == digests(tmp_path / "t")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_a_driver_that_ends_loses_nothing_and_the_same_command_goes_on(
    number: signal.Signals, cifar: Command, tmp_path: Path
) -> None:
    arguments = (*GRID, "--profile", "smoke", "--epochs", "2", "--seed", "0-2", "--on", "local")
    sweep = start(tmp_path, *arguments)
    wait_until(lambda: list((tmp_path / "r").glob("*/metrics.json")))
    sweep.send_signal(number)
    _, text = sweep.communicate(timeout=60)
    if number == signal.SIGINT:
        assert sweep.returncode == 130
        assert "the same command continues from there" in text
        assert "Traceback" not in text
    wait_until(lambda: not training_in(tmp_path))
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").glob("*/metrics.json")}
    done = cifar("sweep", *arguments, "--runs", "r")
    assert done.code == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(runs_in(tmp_path / "r")) == 3
    wait_until(lambda: not training_in(tmp_path))


def training_in(folder: Path) -> list[int]:
    """The processes of Ray and of training that were started in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str((path / "cwd").readlink()) == str(folder):
                found.append(int(path.name))
        except OSError:
            continue
    return found


TEN_TASKS = """
import json, sys
from pathlib import Path
from cifar.data import dataset
from cifar.training.cluster import on_ray
from cifar.training.cluster.task import Task
task = Task("second-none-s0", tuple(sys.argv[2:]), 1, 1)
data = on_ray.DataCheck("synthetic", None, dataset.draw_synthetic().sha256)
shown = []
with on_ray.cluster(sys.argv[1], False, print):
    nodes = on_ray.probe(data, 1)
    outcomes = on_ray.train_all([task] * 10, Path("r").resolve(), nodes, False, lambda *state: shown.append(state))
print(json.dumps([outcome.code for outcome in outcomes.values()]))
"""


def test_ten_tasks_for_one_run_train_it_once(two_nodes: tuple[Any, list[Any]], tmp_path: Path) -> None:
    cluster, _ = two_nodes
    command = [sys.executable, "-c", TEN_TASKS, cluster.address, *GRID, "--epochs", "1", "--seed", "0"]
    done = subprocess.run(command, cwd=tmp_path, env=isolated(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0]
    (run,) = runs_in(tmp_path / "r")
    assert run.finished
    assert len(epochs_of(run.path)) == 1


def test_an_address_without_a_cluster_is_a_sentence(cifar: Command) -> None:
    output = cifar("sweep", *GRID, "--seed", "0", "--on", "ray=127.0.0.1:9", "--runs", "r")
    assert output.code == 2
    assert "127.0.0.1:9: there is no Ray cluster" in output.err


def test_a_run_that_fails_is_named_and_the_others_are_trained(cifar: Command, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "second-none-s0").mkdir()
    (tmp_path / "r" / "second-none-s0" / "letter.txt").write_text("mine")
    output = cifar("sweep", *GRID, "--epochs", "1", "--seed", "0,1", "--on", "local", "--runs", "r")
    assert output.code == 1
    assert "second-none-s0 failed on " in output.err
    assert "not a run folder: it holds letter.txt" in output.err
    assert "error: 1 of 2 runs failed. The same command tries them again." in output.err
    assert Run(tmp_path / "r" / "second-none-s1").finished


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threads", "64", "--on", "local"), "A run needs 64 cores, and no node has more than"),
        (("--on", "rai"), "Did you mean 'ray'?"),
        (("--on", "local=1.2.3.4:5"), "--on local takes no address"),
        (("--device", "gpu", "--on", "local"), "A run needs a GPU, and no node has one."),
    ],
)
def test_a_wrong_request_is_a_sentence(arguments: tuple[str, ...], message: str, cifar: Command) -> None:
    output = cifar("sweep", *GRID[:-2], "--seed", "0", *arguments, "--runs", "r")
    assert output.code == 2
    assert message in " ".join(output.err.split())


def node(name: str = "a", key: str = "k", cores: int = 2, problem: str | None = None) -> Node:
    return Node(f"id-{name}", name, cores, 0, key, problem)


TASK = Task("second-none-s0", (), 1, 1)


@given(st.lists(st.tuples(st.sampled_from("kl"), st.integers(1, 8), st.booleans()), min_size=1, max_size=6))
def test_runs_go_to_one_kind_of_node_that_has_the_data(described: list[tuple[str, int, bool]]) -> None:
    nodes = []
    for number, (key, cores, has_data) in enumerate(described):
        nodes.append(node(str(number), key, cores, None if has_data else "no data."))
    notes: list[str] = []
    usable = [one for one in nodes if one.problem is None]
    if not usable:
        with pytest.raises(NotFoundError, match=r"No node can train: no data\."):
            on_ray.choose(nodes, [TASK], False, notes.append)
        return
    chosen = on_ray.choose(nodes, [TASK], False, notes.append)
    assert len({one.key for one in chosen}) == 1
    assert {one.id for one in chosen} <= {one.id for one in usable}
    others = [one for one in usable if one.key != chosen[0].key]
    assert sum(one.cores for one in chosen) >= sum(one.cores for one in others)
    assert sum("left out" in note for note in notes) == len(nodes) - len(usable)
    assert any("of 2 kinds" in note for note in notes) == bool(others)
    assert on_ray.choose(nodes, [TASK], True, notes.append) == usable


def test_nodes_too_small_for_a_run_are_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"A run needs 4 cores, and no node has more than 2: give --threads\."):
        on_ray.choose([node()], [Task("a", (), 4, 1)], False, print)


def test_a_run_that_was_damaged_on_its_way_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "from" / "figures").mkdir(parents=True)
    (tmp_path / "from" / "recipe.json").write_text("{}")
    (tmp_path / "from" / "figures" / "a.png").write_bytes(bytes(100))
    packed = pack(tmp_path / "from")
    target = unpack(packed, tmp_path / "runs")
    assert sorted(path.name for path in target.rglob("*")) == ["a.png", "figures", "recipe.json"]
    damaged = PackedRun("other", packed.content[:-1] + b"x", packed.sha256)
    with pytest.raises(DataError, match="other: damaged on its way"):
        unpack(damaged, tmp_path / "runs")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["from"]


def test_a_full_disk_is_named_and_the_others_are_trained(cifar: Command, tmp_path: Path) -> None:
    """A file stands where the folder of one run must be made: exit code 4, as of a disk that is full."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "second-none-s0").write_text("")
    output = cifar("sweep", *GRID, "--epochs", "1", "--seed", "0,1", "--on", "local", "--runs", "r", "--json")
    assert output.code == 1
    codes = {run["name"]: run["code"] for run in output.json["runs"]}
    assert codes == {"second-none-s0": 4, "second-none-s1": 0}
