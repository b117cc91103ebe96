"""What a grid costs the driver of `cifar sweep --on ray`: empty runs, so that nothing else is measured.

python bench/sweep/driver_cost.py [RUNS ...]    writes driver_cost.json beside this file

For each number of runs: seconds from the first submission to the last result, and the processor time of the driver.
How many nodes it keeps busy follows from that and from how long a run takes: see docs/sweeps.md.
"""

import json
import sys
import time
from pathlib import Path

from cifar.data import dataset
from cifar.recipes import recipe
from cifar.system import environment
from cifar.training.cluster import on_ray
from cifar.training.cluster.node_data import WantedData
from cifar.training.cluster.nodes import Node, probe
from cifar.training.cluster.task import Outcome, Progress, Task

RUNS = (10, 100, 1000, 10_000)
EPOCHS = 30  # that each empty run reports


def empty_run(task, _runs, _variables, _data, monitor):
    for epoch in range(EPOCHS):
        monitor.update.remote(task.name, Progress("node", epoch, 1.0))
    return Outcome("node", 0, ""), None


def measure(n: int, nodes: list[Node]) -> dict[str, float]:
    tasks = [Task(recipe("second", "none", seed=seed, threads=1, epochs=EPOCHS), (), "") for seed in range(n)]
    started, processor_started = time.perf_counter(), time.process_time()
    outcomes = on_ray.train_all(tasks, Path.cwd(), nodes, False, lambda _progress, _outcomes: None)
    assert len(outcomes) == n
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - processor_started
    return {"runs": n, "seconds": seconds, "driver_seconds": processor_seconds}


def main() -> None:
    on_ray._train_on_node = empty_run
    wanted = WantedData("synthetic", None, dataset.draw_synthetic().sha256, None)
    started = time.perf_counter()
    with on_ray.cluster(None, True, print):
        ready = time.perf_counter() - started
        nodes = probe(wanted, Task(recipe("second", "none", threads=1), (), wanted.sha256), None, print)
        probed = time.perf_counter() - started - ready
        measured = [measure(n, nodes) for n in map(int, sys.argv[1:] or RUNS)]
    content = {
        "format_version": 1,
        "machine": environment.facts(1),
        "seconds_to_start_ray": ready,
        "seconds_to_probe": probed,
        "epochs_reported": EPOCHS,
        "measured": measured,
    }
    path = Path(__file__).with_name("driver_cost.json")
    path.write_text(json.dumps(content, indent=1) + "\n")
    for row in measured:
        each = 1000 * row["driver_seconds"] / row["runs"]
        print(f"{row['runs']:6,} runs  {row['seconds']:7.2f} s  {each:.2f} ms of the driver for each")


if __name__ == "__main__":
    main()
