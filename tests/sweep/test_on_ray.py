"""Grids on Ray: the bits of `cifar train`, lost nodes, killed drivers, and nodes that differ."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, isolated
from helpers.ray_cluster import cluster_of_two, write_noise
from hypothesis import given
from hypothesis import strategies as st

from cifar.data import archive, dataset
from cifar.errors import CifarError, DataError, NotFoundError, UsageError
from cifar.recipes import recipe
from cifar.runs.run import Run, locked_run, runs_in
from cifar.runs.schemas import Identity
from cifar.system.environment import facts
from cifar.training.cluster.node_data import WantedData
from cifar.training.cluster.nodes import Node, Question, choose, describe_this_node, key_of, that_can_resume
from cifar.training.cluster.packed import Packed, pack, unpack
from cifar.training.cluster.task import Task, train

pytest.importorskip("ray", reason="the extra ray is not installed")
GRID = ("--network", "second", "--augment", "none", "--data", "synthetic", "--threads", "1")
LONG = ("--profile", "smoke", "--epochs", "3")


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


def test_a_node_that_is_lost_in_the_middle_of_a_run_costs_at_most_an_epoch_and_no_bit(
    cifar: Command, tmp_path: Path
) -> None:
    with cluster_of_two({}, {}) as (cluster, second):
        arguments = (*GRID, *LONG, "--seed", "0,1", "--on", f"ray={cluster.address}")
        sweep = start(tmp_path, *arguments)
        folders = [tmp_path / "r" / f"second-none-s{seed}" for seed in (0, 1)]
        wait_until(lambda: all(epochs_of(folder) for folder in folders))
        before = [epochs_of(folder) for folder in folders]
        cluster.remove_node(second, allow_graceful=False)
        assert sweep.wait(600) == 0, sweep.communicate()[1]
        sweep.communicate()
    for folder, lines in zip(folders, before, strict=True):
        assert epochs_of(folder)[: len(lines)] == lines  # these were not trained again
        assert [json.loads(line)["epoch"] for line in epochs_of(folder)] == [1, 2, 3]
    again = cifar("sweep", *arguments, "--runs", "r", "--json")  # there is no cluster by now, and none is needed
    assert again.code == 0, again.err
    assert [run["status"] for run in again.json["runs"]] == ["finished"] * 2
    assert "2 of 2 runs are finished already." in again.err
    trained = cifar("train", *GRID, *LONG, "--seed", "0,1", "--runs", "t", "--train-only")
    assert trained.code == 0, trained.err
    assert digests(tmp_path / "r") == digests(tmp_path / "t")
    for name in ("variables", "settings"):
        of_ray, without = (Run(tmp_path / folder / "second-none-s0").environment[name] for folder in "rt")
        assert of_ray == without


TEN_TASKS = """
import json, sys
from pathlib import Path
from cifar.data import dataset
from cifar.recipes import recipe
from cifar.training.cluster import on_ray
from cifar.training.cluster.node_data import WantedData
from cifar.training.cluster.nodes import probe
from cifar.training.cluster.task import Task
wanted = WantedData("synthetic", None, dataset.draw_synthetic().sha256, None)
chosen = recipe("second", "none", profile="quick", epochs=1, dataset="synthetic", threads=1)
task = Task(chosen, tuple(sys.argv[2:]), wanted.sha256)
shown = []
with on_ray.cluster(sys.argv[1], False, print):
    nodes = probe(wanted, task, Path("r").resolve(), print)
    outcomes = on_ray.train_all([task] * 10, Path("r").resolve(), nodes, False, lambda *state: shown.append(state))
print(json.dumps([outcome.code for outcome in outcomes.values()]))
"""


def test_ten_tasks_for_one_run_train_it_once(tmp_path: Path) -> None:
    with cluster_of_two({}, {}) as (cluster, _):
        command = [sys.executable, "-c", TEN_TASKS, cluster.address, *GRID, "--epochs", "1", "--seed", "0"]
        done = subprocess.run(command, cwd=tmp_path, env=isolated(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0]
    (run,) = runs_in(tmp_path / "r")
    assert run.finished
    assert len(epochs_of(run.path)) == 1


def test_a_node_without_shared_folder_and_data_is_sent_these_and_its_run_comes_back(
    cifar: Command, tmp_path: Path
) -> None:
    """Only the first node has a copy of cifar10, and only the second the two cores that a run needs."""
    copy, cache = tmp_path / "copy", tmp_path / "cache-of-second"
    write_noise(copy / archive.FOLDER)
    with locked_run(tmp_path / "r", Identity.of(recipe("second", "none", epochs=7), "0" * 64, "0" * 64)) as other:
        pass
    grid = ("--network", "second", "--augment", "none", "--threads", "2", "--profile", "smoke", "--epochs", "1")
    without = {"CIFAR10_DIR": str(copy / "missing"), "XDG_CACHE_HOME": str(cache)}
    with cluster_of_two({"CIFAR10_DIR": str(copy)}, without, cores=2) as (cluster, _):
        arguments = (*grid, "--seed", "0", "--on", f"ray={cluster.address}", "--runs", "r", "--collect")
        swept = cifar("sweep", *arguments, CIFAR10_DIR=str(copy))
    assert swept.code == 0, swept.err
    assert "no such folder. The copy of here is sent there." in " ".join(swept.err.split())
    assert "1 of 1 runs are in r" in swept.out
    digest = dataset.load_cifar10(copy, lambda _note: None).sha256
    before, collected = runs_in(tmp_path / "r")
    assert before.identity == other.identity
    assert collected.metrics.data_sha256 == digest
    assert (cache / "cifar-bench" / "sent" / digest[:16] / archive.FOLDER).is_dir()


def test_a_driver_that_ends_loses_nothing_and_the_same_command_goes_on(cifar: Command, tmp_path: Path) -> None:
    one_after_the_other = ("--threads", str(os.cpu_count()))
    arguments = (*GRID, *one_after_the_other, "--epochs", "1", "--seed", "0,1", "--on", "local")
    runs = tmp_path / "r"

    interrupted = start(tmp_path, *arguments)
    wait_until(lambda: list(runs.glob("*/metrics.json")))
    interrupted.send_signal(signal.SIGINT)
    _, text = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert "the same command continues from there" in text
    assert "Traceback" not in text
    wait_until(lambda: not training_in(tmp_path))
    (finished,) = runs.glob("*/metrics.json")
    written = finished.stat().st_mtime_ns

    killed = start(tmp_path, *arguments)
    wait_until(lambda: training_in(tmp_path))
    killed.kill()
    killed.communicate()
    wait_until(lambda: not training_in(tmp_path))
    assert list(runs.glob("*/metrics.json")) == [finished]

    done = cifar("sweep", *arguments, "--runs", "r")
    assert done.code == 0, done.err
    assert finished.stat().st_mtime_ns == written
    assert [run.recipe.seed for run in runs_in(runs) if run.finished] == [0, 1]
    wait_until(lambda: not training_in(tmp_path))


def training_in(folder: Path) -> list[int]:
    """The processes in a folder that train; Ray's own agents end a minute after a driver that was killed."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            if str((path / "cwd").readlink()) == str(folder) and b"train" in command:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_an_address_without_a_cluster_is_a_sentence(cifar: Command) -> None:
    output = cifar("sweep", *GRID, "--seed", "0", "--on", "ray=127.0.0.1:9", "--runs", "r")
    assert output.code == 2
    assert "127.0.0.1:9: there is no Ray cluster" in output.err


def test_runs_that_fail_are_named_and_the_others_are_trained(cifar: Command, tmp_path: Path) -> None:
    """A folder with somebody's letter, a file where a folder must be made (as of a full disk), a damaged run."""
    (tmp_path / "r" / "second-none-s0").mkdir(parents=True)
    (tmp_path / "r" / "second-none-s0" / "letter.txt").write_text("mine")
    (tmp_path / "r" / "second-none-s1").write_text("")
    (tmp_path / "r" / "second-none-s2").mkdir()
    (tmp_path / "r" / "second-none-s2" / "recipe.json").write_text("{}")
    output = cifar("sweep", *GRID, "--epochs", "1", "--seed", "0-3", "--on", "local", "--runs", "r", "--json")
    assert output.code == 1
    assert "second-none-s0 failed: r/second-none-s0: not a run folder" in output.err.replace(str(tmp_path) + "/", "")
    assert "not a run folder: it holds letter.txt" in output.err
    assert "second-none-s1 failed on " in output.err
    assert "error: 3 of 4 runs failed. The same command trains what is missing." in output.err
    codes = {run["name"]: run["code"] for run in output.json["runs"]}
    assert codes == {"second-none-s0": 2, "second-none-s1": 4, "second-none-s2": 2, "second-none-s3": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--on", "rai"), "Did you mean 'ray'?"),
        (("--on", "local=1.2.3.4:5"), "--on local takes no address"),
    ],
)
def test_a_wrong_request_is_a_sentence(arguments: tuple[str, ...], message: str, cifar: Command) -> None:
    output = cifar("sweep", *GRID[:-2], "--seed", "0", *arguments, "--runs", "r")
    assert output.code == 2
    assert message in " ".join(output.err.split())


def node(name: str = "a", key: str = "k", cores: int = 2, problem: str | None = None) -> Node:
    return Node(f"id-{name}", name, cores, 0, key, problem)


DATA = "d" * 64
TASK = Task(recipe("second", "none", threads=1), (), DATA)


@given(st.lists(st.tuples(st.sampled_from("kl"), st.integers(1, 8), st.booleans()), min_size=1, max_size=6))
def test_runs_go_to_one_kind_of_node_that_has_the_data(described: list[tuple[str, int, bool]]) -> None:
    nodes = []
    for number, (key, cores, has_data) in enumerate(described):
        nodes.append(node(str(number), key, cores, None if has_data else "no data."))
    notes: list[str] = []
    usable = [one for one in nodes if one.problem is None]
    if not usable:
        with pytest.raises(NotFoundError, match=r"No node can train: no data\."):
            choose(nodes, [TASK], False, notes.append)
        return
    chosen = choose(nodes, [TASK], False, notes.append)
    assert len({one.key for one in chosen}) == 1
    assert {one.id for one in chosen} <= {one.id for one in usable}
    others = [one for one in usable if one.key != chosen[0].key]
    assert sum(one.cores for one in chosen) >= sum(one.cores for one in others)
    assert sum("left out" in note for note in notes) == len(nodes) - len(usable)
    assert any("of 2 kinds" in note for note in notes) == bool(others)
    assert choose(nodes, [TASK], True, notes.append) == usable


def test_a_kind_that_is_common_and_too_small_does_not_keep_a_run_from_a_larger_node() -> None:
    small = [node(str(number), "k", 2) for number in range(10)]
    large = node("large", "l", 8)
    four_threads = Task(recipe("second", "none", threads=4), (), DATA)
    assert choose([*small, large], [four_threads], False, print) == [large]
    with_gpu = Node("id", "g", 1, 1, "k", None)
    with pytest.raises(UsageError, match=r"A run needs a GPU and 2 cores, and no node has both"):
        choose([node(), with_gpu], [Task(recipe("second", "none", threads=2), (), DATA, gpu=True)], False, print)


def test_nodes_too_small_for_a_run_are_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"A run needs 4 cores, and no node has more than 2: give --threads\."):
        choose([node()], [Task(recipe("second", "none", threads=4), (), DATA)], False, print)


def test_a_grid_on_gpus_needs_a_node_with_one() -> None:
    with pytest.raises(UsageError, match=r"A run needs a GPU, and no node has one\."):
        choose([node()], [Task(TASK.recipe, (), DATA, gpu=True)], False, print)


def test_a_node_that_does_not_see_the_folder_of_runs_is_told_so(tmp_path: Path) -> None:
    wanted = WantedData("synthetic", None, dataset.draw_synthetic().sha256, None)
    for token, problem in ((tmp_path, None), (tmp_path / "gone", f"it does not share {tmp_path} with this machine")):
        _, found, _, lacks_data = describe_this_node(Question(wanted, TASK, {}, token), None)
        assert not lacks_data
        assert found is problem or found.startswith(problem)


def test_a_begun_run_goes_on_where_its_environment_is_the_same(tmp_path: Path) -> None:
    nodes = [node("a", "k"), node("b", key_of(facts(1)))]
    assert that_can_resume(TASK, tmp_path, nodes) == nodes
    (tmp_path / TASK.name).mkdir()
    (tmp_path / TASK.name / "environment.json").write_text(json.dumps(facts(1)))
    assert that_can_resume(TASK, tmp_path, nodes) == nodes[1:]
    assert that_can_resume(TASK, tmp_path, nodes[:1]) == nodes[:1]
    (tmp_path / TASK.name / "environment.json").write_text("{}")
    assert that_can_resume(TASK, tmp_path, nodes) == nodes


def test_a_run_on_other_data_is_not_the_finished_one(tmp_path: Path) -> None:
    with locked_run(tmp_path, Identity.of(TASK.recipe, DATA, "0" * 64)) as run:
        run.write_json("metrics.json", {})
    assert TASK.is_finished(tmp_path)
    with pytest.raises(UsageError, match="it was trained on other data"):
        Task(TASK.recipe, (), "e" * 64).is_finished(tmp_path)
    run.write_json("diverged.json", {"reason": "loss nan in epoch 1"})
    with pytest.raises(CifarError, match="diverged: loss nan in epoch 1"):
        TASK.is_finished(tmp_path)


def test_a_process_that_trains_another_recipe_has_not_trained_the_run(tmp_path: Path) -> None:
    outcome = train(Task(TASK.recipe, ("--help",), DATA), tmp_path, {})
    assert (outcome.code, "trained another recipe" in outcome.message) == (1, True)


def test_a_run_that_was_damaged_on_its_way_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "from" / "figures").mkdir(parents=True)
    (tmp_path / "from" / "recipe.json").write_text("{}")
    (tmp_path / "from" / "figures" / "a.png").write_bytes(bytes(100))
    packed = pack(tmp_path / "from")
    unpack(packed, tmp_path / "runs" / "to")
    assert sorted(path.name for path in (tmp_path / "runs" / "to").rglob("*")) == ["a.png", "figures", "recipe.json"]
    damaged = Packed("other", packed.content[:-1] + b"x", packed.sha256)
    with pytest.raises(DataError, match="other: damaged on its way"):
        unpack(damaged, tmp_path / "runs" / "other")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["to"]


def test_a_file_is_sent_under_its_name_and_a_link_as_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"content")
    (tmp_path / "copy.tar.gz").symlink_to(tmp_path / "blob")
    unpack(pack(tmp_path / "copy.tar.gz"), tmp_path / "sent" / "copy.tar.gz")
    assert (tmp_path / "sent" / "copy.tar.gz").read_bytes() == b"content"
    assert not (tmp_path / "sent" / "copy.tar.gz").is_symlink()
