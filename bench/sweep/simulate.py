"""How a grid grows with the number of nodes: a simulation from what was measured on one machine.

python bench/sweep/simulate.py    prints the table of docs/sweeps.md

Measured: what a run costs the driver, starting Ray and asking the nodes (driver_cost.json), and what a run asks of
its storage (storage_operations.json). Assumed: a thousand runs of eight minutes, 10 % apart, on nodes that train one
at a time; a node starts a run six seconds after it is told to.
"""

import heapq
import json
import random
from pathlib import Path

RUNS, MINUTES, SPREAD, START_SECONDS, EPOCHS = 1000, 8.0, 0.10, 6.0, 30
NODES = (1, 10, 100, 1000)
MEASURED = json.loads(Path(__file__).with_name("driver_cost.json").read_text())
STORAGE = json.loads(Path(__file__).with_name("storage_operations.json").read_text())


def hours(nodes: int) -> float:
    """From the command to the last result: every node takes the next run when it has ended one."""
    source = random.Random(0)
    durations = [60 * MINUTES * source.uniform(1 - SPREAD, 1 + SPREAD) + START_SECONDS for _ in range(RUNS)]
    per_run = MEASURED["measured"][-1]["driver_seconds"] / MEASURED["measured"][-1]["runs"]
    submitted = MEASURED["seconds_to_start_ray"] + MEASURED["seconds_to_probe"]
    free = [submitted] * nodes
    for duration in durations:
        submitted += per_run  # the driver handles one run after the other
        begin = max(heapq.heappop(free), submitted)
        heapq.heappush(free, begin + duration)
    return max(free) / 3600


def main() -> None:
    per_epoch = STORAGE["each_further_epoch"]
    per_run = STORAGE["first_epoch"] + (EPOCHS - 1) * per_epoch
    one = hours(1)
    print("| nodes | hours | speed-up | share of linear | storage operations per second |")
    print("| --: | --: | --: | --: | --: |")
    for nodes in NODES:
        taken = hours(nodes)
        operations = RUNS * per_run / (3600 * taken)
        share = one / taken / nodes
        print(f"| {nodes:,} | {taken:.2f} | {one / taken:.1f} | {share:.0%} | {operations:.1f} |")
    print(f"A run of {EPOCHS} epochs: {per_run:.0f} storage operations, {per_epoch:.0f} of them per epoch.")


if __name__ == "__main__":
    main()
