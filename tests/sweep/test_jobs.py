"""Grids as jobs: the files are what Kubernetes and Slurm take, and every index trains its run."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Command, isolated

from cifar.errors import UsageError
from cifar.recipes import recipe
from cifar.runs.run import runs_in
from cifar.training.cluster import jobs
from cifar.training.cluster.task import Task

DATA = "d" * 64
GRID = ("--network", "second", "--data", "synthetic", "--threads", "1", "--epochs", "1", "--augment", "none")
SBATCH = """\
#!/bin/sh
# Runs an array job index by index, as Slurm would, from a copy of the script in a folder of its own.
set -eu
cp "$1" "$HOME/spooled"
array=$(sed -n 's/^#SBATCH --array=0-//p' "$1")
for index in $(seq 0 "$array"); do
    SLURM_ARRAY_TASK_ID=$index bash "$HOME/spooled"
done
"""


def only(folder: Path, name: str) -> Path:
    """The file of a name in the folder of the one job that was written below `folder`."""
    (path,) = folder.glob(f"*/{name}")
    return path


def documents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    config_map, job = yaml.safe_load_all(path.read_text())
    return config_map, job


def with_cifar(folder: Path) -> dict[str, str]:
    """An environment in which `cifar` is a command, as it is where the package is installed."""
    program = folder / "bin" / "cifar"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cifar "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    variables = isolated(folder)
    return {**variables, "PATH": f"{program.parent}{os.pathsep}{variables['PATH']}"}


def test_a_kubernetes_job_keeps_the_schema_of_its_api(cifar: Command, tmp_path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="the extra ray is not installed")
    output = cifar("sweep", *GRID, "--seed", "0-2", "--on", "k8s", "--image", "registry/cifar:1")
    assert output.code == 0, output.err
    path = only(tmp_path / "job", "job.yaml")
    assert f"3 runs. Start them: kubectl apply --server-side --filename {path.relative_to(tmp_path)}" in output.out
    for document in documents(path):
        validate.validate(document, "1.31", strict=True)
    _, job = documents(path)
    job["spec"]["completionMod"] = job["spec"].pop("completionMode")
    with pytest.raises(validate.ValidationError):
        validate.validate(job, "1.31", strict=True)


def test_exit_codes_that_no_retry_changes_fail_an_index_at_once(tmp_path: Path) -> None:
    tasks = [Task(recipe("second", "none", seed=seed, threads=1), (), DATA) for seed in (0, 1)]
    jobs.write_kubernetes(tasks, tmp_path, tmp_path / "runs", None, "image", print)
    _, job = documents(only(tmp_path, "job.yaml"))
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["backoffLimitPerIndex"]) == ("Indexed", 2, jobs.RETRIES)
    failing, ignored = spec["podFailurePolicy"]["rules"]
    assert failing["action"] == "FailIndex"
    assert failing["onExitCodes"]["values"] == [1, 2, 3]
    assert ignored["action"] == "Ignore"
    template = spec["template"]["spec"]
    assert template["restartPolicy"] == "Never"
    (container,) = template["containers"]
    assert container["name"] == failing["onExitCodes"]["containerName"]
    assert container["resources"]["requests"]["cpu"] == "1"


def test_every_index_of_a_kubernetes_job_trains_its_run(cifar: Command, tmp_path: Path) -> None:
    """With the user's own recipe file, which the pods have from the ConfigMap."""
    assert cifar("recipes", "quick", "--to", "mine.toml").code == 0
    assert cifar("sweep", *GRID, "--recipe", "mine.toml", "--seed", "0,1", "--on", "k8s").code == 0
    (tmp_path / "mine.toml").unlink()
    config_map, job = documents(only(tmp_path / "job", "job.yaml"))
    (tmp_path / "grid").mkdir()
    for name, text in config_map["data"].items():
        here = text.replace("--runs /runs", f"--runs {tmp_path / 'runs'}").replace("/grid/", f"{tmp_path}/grid/")
        (tmp_path / "grid" / name).write_text(here)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    command = [word.replace("/grid/", f"{tmp_path}/grid/") for word in container["command"]]
    variables = with_cifar(tmp_path)
    for index in range(job["spec"]["completions"]):
        subprocess.run(command, env={**variables, "JOB_COMPLETION_INDEX": str(index)}, cwd=tmp_path, check=True)
    trained = [run.recipe for run in runs_in(tmp_path / "runs") if run.finished]
    assert [(one.recipe, one.seed) for one in trained] == [("mine", 0), ("mine", 1)]
    beyond = subprocess.run(command, env={**variables, "JOB_COMPLETION_INDEX": "2"}, capture_output=True, text=True)
    assert beyond.returncode == 2
    assert "has no line for index 2" in beyond.stderr


def test_another_grid_leaves_a_job_that_waits_as_it_is(cifar: Command, tmp_path: Path) -> None:
    for seeds in ("0,1", "2,3"):
        output = cifar("sweep", *GRID, "--seed", seeds, "--on", "slurm", "--json", KERAS_BACKEND="tensorflow")
        assert output.json["runs"] == [f"second-none-s{seed}" for seed in seeds.split(",")]
        assert output.json["command"].startswith("sbatch job/cifar-sweep-")
    grids = sorted(path.read_text() for path in (tmp_path / "job").glob("*/grid.txt"))
    assert ["--seed 0" in grids[0], "--seed 2" in grids[1]] == [True, True]
    assert all(line.startswith("env KERAS_BACKEND=tensorflow cifar train ") for line in grids[0].splitlines())


def test_a_grid_that_no_config_map_holds_is_a_sentence(tmp_path: Path) -> None:
    tasks = [Task(recipe("second", "none", seed=seed), ("x" * 1000,), DATA) for seed in range(1000)]
    with pytest.raises(UsageError, match=r"1,000 runs take 1,\d+,\d+ bytes in a ConfigMap"):
        jobs.write_kubernetes(tasks, tmp_path, tmp_path / "runs", None, "image", print)
    assert list(tmp_path.iterdir()) == []


def test_a_slurm_job_is_bash_and_an_array_that_trains_every_run(cifar: Command, tmp_path: Path) -> None:
    output = cifar("sweep", *GRID, "--seed", "0,1", "--on", "slurm", "--runs", "runs", "--to", "a b")
    assert output.code == 0, output.err
    script = only(tmp_path / "a b", "job.sh")
    assert f"2 runs. Start them: sbatch '{script.relative_to(tmp_path)}'" in output.out
    subprocess.run(["bash", "-n", script], check=True)
    assert "#SBATCH --array=0-1\n#SBATCH --cpus-per-task=1\n" in script.read_text()
    variables = with_cifar(tmp_path)
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    subprocess.run(["sbatch", script], env=variables, cwd=tmp_path, check=True)
    assert [run.recipe.seed for run in runs_in(tmp_path / "runs") if run.finished] == [0, 1]


def test_a_grid_on_gpus_asks_for_them(tmp_path: Path) -> None:
    tasks = [Task(recipe("first", "none"), ("--device", "gpu"), DATA, gpu=True)]
    jobs.write_slurm(tasks, tmp_path / "s", tmp_path / "runs", None, "", print)
    assert "#SBATCH --gpus=1\n" in only(tmp_path / "s", "job.sh").read_text()
    jobs.write_kubernetes(tasks, tmp_path / "k", tmp_path / "runs", tmp_path / "data", "image", print)
    _, job = documents(only(tmp_path / "k", "job.yaml"))
    template = job["spec"]["template"]["spec"]
    assert template["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "data" in [volume["name"] for volume in template["volumes"]]
    assert "--data-dir /data" in only(tmp_path / "k", "grid.txt").read_text()


def test_the_figures_of_the_document_are_those_that_were_measured() -> None:
    folder = ROOT / "bench" / "sweep"
    text = " ".join((ROOT / "docs" / "sweeps.md").read_text().split())
    scaling = json.loads((folder / "scaling.json").read_text())
    one, two = scaling["seconds_one_worker"], scaling["seconds_two_workers"]
    assert f"took {one:.1f} s on one worker with one core and {two:.1f} s on two, {two / one:.2f} of it" in text
    cost = json.loads((folder / "driver_cost.json").read_text())
    each = 1000 * cost["measured"][-1]["driver_seconds"] / cost["measured"][-1]["runs"]
    assert f"cost the driver {each:.2f} ms of processor time each" in text
    assert f"starting Ray {cost['seconds_to_start_ray']:.1f} s" in text
    simulated = subprocess.run([sys.executable, folder / "simulate.py"], capture_output=True, text=True, check=True)
    *table, sentence = simulated.stdout.splitlines()
    for line in table:
        assert line in text
    operations = sentence.split(": ")[1].split()[0]
    assert f"opens, renames or removes a file in its folder {operations} times" in text
