"""The rows of augmentation alone: images per second of each policy."""

import numpy as np

from cifar.benchmark import jobs
from cifar.benchmark.session import Row, Session
from cifar.benchmark.worker import run_worker


def augmentation_speed(session: Session, policy: str) -> tuple[list[float], Row]:
    """Return seconds for a batch of 128 images on one thread, by several processes, and the row."""
    processes = session.grid.processes
    budget = session.grid.budget / 4
    seconds: list[float] = []
    repeats, cores_busy = [], []
    for _ in range(processes):
        result = run_worker(jobs.augmentation, 1, policy=policy, budget=budget, processes=processes)
        seconds += result["seconds"]
        repeats.append(len(result["seconds"]))
        cores_busy.append(result["cores_busy"])
    return seconds, {
        "kind": "augmentation",
        "augment": policy,
        "threads": 1,
        "device": "cpu",
        "batch": result["batch"],
        "images_per_second": result["batch"] / float(np.median(seconds)),
        "cores_busy": max(cores_busy),
        "repeats": repeats,
    }
