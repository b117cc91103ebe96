"""How long recipes take here: `python bench/recipes/epoch_times.py RUN...`, with nothing else running.

Trains the first epochs of each RUN's recipe in a temporary folder; of the RUN only recipe.json is read. Writes
epoch_times.json: the machine, and of each run the seconds of every epoch, without scoring.
"""

import json
import sys
import tempfile
from pathlib import Path

from cifar.errors import CifarError
from cifar.runs.loading import load_data
from cifar.runs.run import Run, locked_run
from cifar.runs.schemas import Epoch, Timing
from cifar.system import environment, files
from cifar.training import loop
from cifar.training.callback import SilentCallback

FORMAT_VERSION = 1
RESULTS = Path(__file__).with_name("epoch_times.json")
THREADS = 2
EPOCHS = 3  # the first of them traces the step


class TimedCallback(SilentCallback):
    """Keeps the seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: dict[int, float] = {}

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Keep the seconds."""
        self.seconds[line.epoch] = timing.train_seconds


def seconds_per_epoch(run: Run) -> list[float]:
    """Train the first epochs of a run's recipe; return the seconds of each."""
    data = load_data(run, None, print)
    callback = TimedCallback()
    with tempfile.TemporaryDirectory() as scratch, locked_run(Path(scratch), run.identity) as again:
        loop.train(again, data, callback, last_epoch=EPOCHS)
    return list(callback.seconds.values())


def main(*folders: str) -> None:
    """Time some recipes; write the file when all are timed."""
    environment.configure(THREADS)
    machine = environment.facts(THREADS)
    seconds = {}
    for folder in folders:
        run = Run(Path(folder))
        seconds[run.path.name] = seconds_per_epoch(run)
        print(run.path.name, *[f"{value:.1f}" for value in seconds[run.path.name]], flush=True)
    content = {"format_version": FORMAT_VERSION, "machine": machine, "epoch_seconds": seconds}
    files.write(RESULTS, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except CifarError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
