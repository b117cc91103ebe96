"""Rows of the training benchmark whose peer is PyTorch: `tox -e peers`."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, isolated

MANY_CORES = """
import psutil
psutil.cpu_count = lambda logical=True: 8 if logical else 4
from cifar.benchmark import grid, training
cases = grid.training_cases(grid.DEFAULT, ["cpu"])
print({training._job(case).threads for case in cases})
"""


def test_every_training_method_has_the_physical_cores_as_its_threads() -> None:
    """Two threads on one core only get in each other's way, and PyTorch by itself would not take them."""
    done = subprocess.run([sys.executable, "-c", MANY_CORES], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "{4}\n", done.stderr


def test_a_row_of_pytorch_is_measured_on_the_physical_cores(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    file = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", ROOT / "bench", "--benchmark-only", f"--benchmark-json={file}", "-p",
         "no:cacheprovider", "-k", "test_training and none-pytorch"],
        cwd=tmp_path, env=isolated(tmp_path), capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (benchmark,) = json.loads(file.read_text())["benchmarks"]
    row = benchmark["extra_info"]
    assert row["method"] == "PyTorch, channels last"
    assert row["threads"] == psutil.cpu_count(logical=False)
    assert row["images_per_second"] > 0
    assert row["memory_bytes"] > 50e6
