"""A long run: what an epoch leaves behind adds up."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from conftest import TINY, isolated

from faults.conftest import Tally

WARM = 50  # epochs in which caches and pools fill
EPOCHS = 200
# Bytes an epoch. Its lines of history and timing, which are kept for the checkpoint, are about 2,000; the rest is
# what allocators keep. A batch of 64 images that were not let go would be 196,608.
LIMIT = 20_000
LONG_RUN = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
import psutil
from cifar import dataset, environment, suite
from cifar.recipes import recipe
from cifar.report.progress import SilentCallback

process, memory, files = psutil.Process(), [], []

class Sampling(SilentCallback):
    def epoch(self, *_):
        memory.append(process.memory_info().rss)
        files.append(process.num_fds())

environment.configure(2)
wanted = recipe("tinynet:build", "shift-flip", epochs=int(sys.argv[1]), dataset="synthetic")
data = dataset.draw_synthetic(500, 200)
suite.train_all([wanted], data, Path("runs"), lambda *_: nullcontext(Sampling()), print)
print(json.dumps({"memory": memory, "files": files}))
"""


def test_two_hundred_epochs_take_no_more_memory_and_files_than_fifty(tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "tinynet.py").write_text(TINY)
    done = subprocess.run(
        [sys.executable, "-c", LONG_RUN, str(EPOCHS)],
        cwd=tmp_path, env=isolated(tmp_path), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    samples = json.loads(done.stdout.splitlines()[-1])
    memory, files = samples["memory"][WARM:], samples["files"][WARM:]
    assert len(memory) == EPOCHS - WARM
    slope = float(np.polyfit(np.arange(len(memory)), memory, 1)[0])
    assert slope < LIMIT, f"{slope:,.0f} bytes an epoch"
    assert max(files) <= max(samples["files"][:WARM])
    for _ in range(EPOCHS):
        tally("epochs in one process without growth")
