"""Rows of the training benchmark whose peer is PyTorch: `tox -e peers`."""

import subprocess
import sys
from dataclasses import replace

import psutil
import pytest
from conftest import ROOT

from cifar.benchmark import grid
from cifar.benchmark.grid import TrainingCase
from cifar.benchmark.session import Peak, Session
from cifar.benchmark.training import STEPS, TrainingBenchmark
from cifar.benchmark.training_job import LEAST_STEPS

MANY_CORES = """
import psutil
psutil.cpu_count = lambda logical=True: 8 if logical else 4
from cifar.benchmark import grid, training
cases = grid.training_cases(grid.DEFAULT, ["cpu"])
from cifar.benchmark.session import Session
benchmark = training.TrainingBenchmark(Session(grid.DEFAULT, {}, 0))
print({benchmark._job(case).threads for case in cases})
"""


def test_every_training_method_has_the_physical_cores_as_its_threads() -> None:
    """Two threads on one core only get in each other's way, and PyTorch by itself would not take them."""
    done = subprocess.run([sys.executable, "-c", MANY_CORES], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "{4}\n", done.stderr


def test_pytorch_in_bfloat16_is_measured_on_both_kinds_of_network() -> None:
    pytest.importorskip("torch")
    cases = []
    for network, batch_size in (("second", None), ("airbench94", 16)):
        cases.append(TrainingCase(network, "none", "pytorch", "bfloat16", batch_size))
    chosen = replace(grid.DEFAULT, rounds=1, round_seconds=0.1, emulated=True)
    session = Session(chosen, {}, 0, training=cases)
    benchmark = TrainingBenchmark(session)
    for case in cases:
        seconds, row = benchmark.steps(case)
        assert len(seconds) >= LEAST_STEPS
        assert (row["method"], row["precision"]) == ("PyTorch", "bfloat16")
    session.end(interrupted=True)


def test_a_row_of_pytorch_is_measured() -> None:
    pytest.importorskip("torch")
    case = TrainingCase("second", "shift-flip", "pytorch")
    session = Session(
        replace(grid.DEFAULT, rounds=1, round_seconds=20.0, try_batch_sizes=True), {}, 0, training=[case]
    )
    session.peaks = {(grid.TRAINING_THREADS, "float32"): Peak("not measured", [1e12])}
    seconds, row = TrainingBenchmark(session).steps(case)
    session.end(interrupted=True)
    assert len(seconds) == STEPS
    assert (row["method"], row["model"], row["augment"]) == ("PyTorch", "second", "shift-flip")
    assert row["threads"] == psutil.cpu_count(logical=False)
    assert set(map(int, row["tried"])) == {128, 256}
    assert row["images_per_second"] > 0
    assert row["memory_bytes"] > 50e6
