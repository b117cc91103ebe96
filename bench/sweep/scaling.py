"""Eight runs on one and on two workers with a core each, as Ray nodes on this machine.

python bench/sweep/scaling.py    writes scaling.json beside this file; needs the machine for itself
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from cifar.system import environment

GRID = ["--network", "second", "--augment", "none", "--data", "synthetic"]
GRID += ["--epochs", "2", "--seed", "0-7", "--threads", "1"]
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


def seconds(workers: int) -> float:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(workers - 1):
        cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cifar", "sweep", *GRID, "--on", f"ray={cluster.address}", "--runs", folder]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        taken = time.perf_counter() - started
        assert len(list(Path(folder).glob("*/metrics.json"))) == 8
    cluster.shutdown()
    return taken


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    one, two = seconds(1), seconds(2)
    content = {
        "format_version": 1,
        "machine": environment.facts(1),
        "arguments": GRID,
        "seconds_one_worker": one,
        "seconds_two_workers": two,
    }
    Path(__file__).with_name("scaling.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"one worker {one:.1f} s, two {two:.1f} s: {two / one:.2f} of it")


if __name__ == "__main__":
    main()
