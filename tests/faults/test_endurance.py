"""A long run: memory and open files do not grow from epoch to epoch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, isolated

from faults.conftest import Tally

WARM_UP = 50  # epochs in which caches and pools fill
EPOCHS = 200
# Bytes per epoch. The lines of history and timing, which are kept for the checkpoint, take about 2,000; the rest is
# what allocators keep. A batch of 64 images that is not freed would take 196,608.
MAX_GROWTH = 20_000
LONG_RUN = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
import psutil
from cifar.data import dataset
from cifar.recipes import recipe
from cifar.system import environment
from cifar.training import grid
from cifar.training.callback import SilentCallback

process, memory, files = psutil.Process(), [], []

class SamplingCallback(SilentCallback):
    def epoch(self, *_):
        memory.append(process.memory_info().rss)
        files.append(process.num_fds())

environment.configure(2)
wanted = recipe("tinynet:build", "shift-flip", epochs=int(sys.argv[1]), dataset="synthetic")
data = dataset.draw_synthetic(500, 200)
grid.train_all([wanted], data, Path("runs"), lambda *_: nullcontext(SamplingCallback()), print)
print(json.dumps({"memory": memory, "files": files}))
"""


@pytest.mark.slow
def test_two_hundred_epochs_take_no_more_memory_and_files_than_fifty(tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "tinynet.py").write_text(TINY)
    done = subprocess.run(
        [sys.executable, "-c", LONG_RUN, str(EPOCHS)],
        cwd=tmp_path, env=isolated(tmp_path), capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    samples = json.loads(done.stdout.splitlines()[-1])
    memory, files = samples["memory"][WARM_UP:], samples["files"][WARM_UP:]
    assert len(memory) == EPOCHS - WARM_UP
    slope = float(np.polyfit(np.arange(len(memory)), memory, 1)[0])
    assert slope < MAX_GROWTH, f"{slope:,.0f} bytes per epoch"
    assert max(files) <= max(samples["files"][:WARM_UP])
    for _ in range(EPOCHS):
        tally("epochs in one process without growth")
