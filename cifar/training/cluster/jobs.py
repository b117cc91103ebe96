"""A grid as a job of another scheduler: files for Kubernetes (an Indexed Job) or Slurm (an array job).

Each job has a folder, and a name, of its own: that of another grid is not changed while it waits. Its grid.txt has a
line per run, a whole command; index i of the job runs line i + 1. Runs are locked, go on from their last epoch and
are kept, so that a job may be started again.
kubernetes.io/docs/concepts/workloads/controllers/job, slurm.schedmd.com/job_array.html
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cifar.errors import UsageError
from cifar.system import files
from cifar.training.cluster.task import Task

NAME = "cifar-sweep"
FINAL_EXIT_CODES = [1, 2, 3]  # a bad result, a wrong request, data missing or damaged: no retry changes them
RETRIES = 6  # of an index whose machine was lost, or whose disk was full
MEMORY = "4Gi"  # of a run; third, the largest, takes 2.5
MAX_CONFIG_MAP_BYTES = 1_000_000  # Kubernetes takes 1 MiB, names included
DOCKERFILE = """\
# Build in a clone of the project: docker build --file {file} --tag {image} .
FROM python:3.11-slim
COPY . /source
RUN pip install --no-cache-dir --constraint /source/constraints.txt "/source{extra}"
"""
RUN_LINE = """\
run=$(sed -n "$(({index} + 1))p" {grid})
[ -n "$run" ] || {{ echo "{grid} has no line for index ${index}" >&2; exit 2; }}
eval "exec $run"
"""
SLURM = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task={threads}
#SBATCH --mem=4G
#SBATCH --requeue
{gpu}set -euo pipefail
cd {folder}
{line}"""


def write_kubernetes(
    tasks: Sequence[Task], to: Path, _runs: Path, data_dir: Path | None, image: str, note: Callable[[str], None]
) -> str:
    """Write grid.txt, job.yaml and a Dockerfile; return the command that starts the job.

    The claims `cifar-runs` and, for a data set in a folder, `cifar-data` are mounted at /runs and /data.

    Raises:
        UsageError: the grid is too large for a ConfigMap.
    """
    lines = _lines(tasks, "/grid", ["--data-dir", "/data"] if data_dir else [], "/runs")
    content = {"grid.txt": lines, **_recipe_file(tasks)}
    n_bytes = sum(len(text.encode()) for text in content.values())
    if n_bytes > MAX_CONFIG_MAP_BYTES:
        raise UsageError(
            f"{len(tasks):,} runs take {n_bytes:,} bytes in a ConfigMap, which holds 1 MiB: split the grid."
        )
    for network in sorted({task.recipe.network for task in tasks if ":" in task.recipe.network}):
        note(f"The image must have {network}: build yours, and name it with --image.")
    name = _name(tasks, "/runs", data_dir, image)
    folder = to / name
    documents = [_config_map(name, content), _job(name, tasks, image, has_data=data_dir is not None)]
    extra = "[jax]" if tasks[0].recipe.backend == "jax" else ""
    files.write(folder / "grid.txt", lines)
    files.write(folder / "job.yaml", yaml.safe_dump_all(documents, sort_keys=False))
    files.write(folder / "Dockerfile", DOCKERFILE.format(file=folder / "Dockerfile", image=image, extra=extra))
    return f"kubectl apply --server-side --filename {shlex.quote(str(folder / 'job.yaml'))}"


def write_slurm(
    tasks: Sequence[Task], to: Path, runs: Path, data_dir: Path | None, image: str, _note: Callable[[str], None]
) -> str:
    """Write grid.txt and job.sh; return the command that starts the job."""
    data = ["--data-dir", str(data_dir.resolve())] if data_dir else []
    name = _name(tasks, runs.resolve(), data_dir, image)
    folder = (to / name).resolve()
    content = {"grid.txt": _lines(tasks, str(folder), data, str(runs.resolve())), **_recipe_file(tasks)}
    for file, text in content.items():
        files.write(folder / file, text)
    grid = shlex.quote(str(folder / "grid.txt"))
    script = SLURM.format(
        name=name,
        last=len(tasks) - 1,
        threads=tasks[0].recipe.threads,
        gpu="#SBATCH --gpus=1\n" if tasks[0].gpu else "",
        folder=shlex.quote(str(tasks[0].folder or folder)),
        line=RUN_LINE.format(index="SLURM_ARRAY_TASK_ID", grid=grid),
    )
    files.write(folder / "job.sh", script)
    return f"sbatch {shlex.quote(str(to / name / 'job.sh'))}"


ENGINES: Mapping[str, Callable[[Sequence[Task], Path, Path, Path | None, str, Callable[[str], None]], str]] = {
    "k8s": write_kubernetes,
    "slurm": write_slurm,
}
"""By the name that `--on` takes: tasks, folder of the jobs, of the runs, of the data, image, and what says a note."""


def _lines(tasks: Sequence[Task], recipes: str, data: Sequence[str], runs: str) -> str:
    """The commands of the runs; `recipes` is the folder of the user's own recipe file."""
    lines = []
    for task in tasks:
        backend = f"KERAS_BACKEND={task.recipe.backend}"
        command = ["env", backend, "cifar", *task.command(recipes), *data, "--runs", runs]
        lines.append(f"{shlex.join(command)}\n")
    return "".join(lines)


def _recipe_file(tasks: Sequence[Task]) -> dict[str, str]:
    """The user's own recipe file, if there is one, by its name."""
    first = tasks[0]
    return {} if first.recipe_text is None else {first.recipe_file: first.recipe_text}


def _name(tasks: Sequence[Task], *settings: object) -> str:
    """The name of a job: eight digits of it are others for another grid, or for other settings."""
    text = json.dumps([[task.command(""), task.recipe.backend] for task in tasks])
    content = f"{text}{tasks[0].recipe_text}{settings}"
    return f"{NAME}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _config_map(name: str, content: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": dict(content),
        "immutable": True,
    }


def _job(name: str, tasks: Sequence[Task], image: str, has_data: bool) -> dict[str, Any]:
    limits = {"cpu": str(tasks[0].recipe.threads), "memory": MEMORY}
    if tasks[0].gpu:
        limits["nvidia.com/gpu"] = "1"
    mounts = {"grid": "/grid", "runs": "/runs"}
    volumes: list[dict[str, Any]] = [
        {"name": "grid", "configMap": {"name": name}},
        {"name": "runs", "persistentVolumeClaim": {"claimName": "cifar-runs"}},
    ]
    if has_data:
        mounts["data"] = "/data"
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": "cifar-data", "readOnly": True}})
    line = RUN_LINE.format(index="JOB_COMPLETION_INDEX", grid="/grid/grid.txt")
    container = {
        "name": "train",
        "image": image,
        "command": ["/bin/sh", "-c", line],
        "resources": {"requests": limits, "limits": limits},
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }
    failed = {"containerName": "train", "operator": "In", "values": FINAL_EXIT_CODES}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": len(tasks),
            "parallelism": len(tasks),
            "backoffLimitPerIndex": RETRIES,
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailIndex", "onExitCodes": failed},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes}},
        },
    }
