"""A grid as a job of another scheduler: files for Kubernetes (an Indexed Job) or Slurm (an array job).

grid.txt has a line per run, a whole command; index i of the job runs line i + 1. Runs are locked, go on from their
last epoch and are kept, so that a job may be started again.
kubernetes.io/docs/concepts/workloads/controllers/job, slurm.schedmd.com/job_array.html
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cifar.system import files
from cifar.training.cluster.task import Task

NAME = "cifar-sweep"
FINAL_EXIT_CODES = [1, 2, 3]  # a bad result, a wrong request, data missing or damaged: no retry changes them
RETRIES = 6  # of an index whose machine was lost, or whose disk was full
MEMORY = "4Gi"  # of a run; third, the largest, takes 2.5
DOCKERFILE = """\
# Build in a clone of the project: docker build --file {file} --tag {image} .
FROM python:3.11-slim
COPY . /source
RUN pip install --no-cache-dir --constraint /source/constraints.txt /source
"""
SLURM = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task={threads}
#SBATCH --mem=4G
#SBATCH --requeue
{gpu}set -euo pipefail
run=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {grid})
eval "exec $run"
"""


def write_kubernetes(tasks: Sequence[Task], to: Path, _runs: Path, data_dir: Path | None, image: str) -> str:
    """Write grid.txt, job.yaml and a Dockerfile; return the command that starts the job.

    The claims `cifar-runs` and, for a data set in a folder, `cifar-data` are mounted at /runs and /data.
    """
    folder = ["--data-dir", "/data"] if data_dir else []
    lines = _lines(tasks, folder, "/runs")
    documents = [_config_map(lines), _job(tasks, image, has_data=data_dir is not None)]
    files.write(to / "grid.txt", lines)
    files.write(to / "job.yaml", yaml.safe_dump_all(documents, sort_keys=False))
    files.write(to / "Dockerfile", DOCKERFILE.format(file=to / "Dockerfile", image=image))
    return f"kubectl apply --filename {shlex.quote(str(to / 'job.yaml'))}"


def write_slurm(tasks: Sequence[Task], to: Path, runs: Path, data_dir: Path | None, _image: str) -> str:
    """Write grid.txt and job.sh; return the command that starts the job."""
    folder = ["--data-dir", str(data_dir.resolve())] if data_dir else []
    grid = (to / "grid.txt").resolve()
    files.write(grid, _lines(tasks, folder, str(runs.resolve())))
    script = SLURM.format(
        name=NAME,
        last=len(tasks) - 1,
        threads=tasks[0].recipe.threads,
        gpu="#SBATCH --gpus=1\n" if tasks[0].gpu else "",
        grid=shlex.quote(str(grid)),
    )
    files.write(to / "job.sh", script)
    return f"sbatch {shlex.quote(str(to / 'job.sh'))}"


ENGINES: Mapping[str, Callable[[Sequence[Task], Path, Path, Path | None, str], str]] = {
    "k8s": write_kubernetes,
    "slurm": write_slurm,
}
"""By the name that `--on` takes: tasks, folder for the files, of the runs, of the data, and image."""


def _lines(tasks: Sequence[Task], folder: Sequence[str], runs: str) -> str:
    lines = []
    for task in tasks:
        command = ["cifar", "train", *task.arguments, *folder, "--runs", runs, "--quiet", "--train-only"]
        lines.append(f"{shlex.join(command)}\n")
    return "".join(lines)


def _config_map(lines: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{NAME}-grid"},
        "data": {"grid.txt": lines},
    }


def _job(tasks: Sequence[Task], image: str, has_data: bool) -> dict[str, Any]:
    limits = {"cpu": str(tasks[0].recipe.threads), "memory": MEMORY}
    if tasks[0].gpu:
        limits["nvidia.com/gpu"] = "1"
    mounts = {"grid": "/grid", "runs": "/runs"}
    volumes: list[dict[str, Any]] = [
        {"name": "grid", "configMap": {"name": f"{NAME}-grid"}},
        {"name": "runs", "persistentVolumeClaim": {"claimName": "cifar-runs"}},
    ]
    if has_data:
        mounts["data"] = "/data"
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": "cifar-data", "readOnly": True}})
    line = 'eval "exec $(sed -n "$((JOB_COMPLETION_INDEX + 1))p" /grid/grid.txt)"'
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
        "metadata": {"name": NAME},
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
