"""Ten processes want the same runs at once."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import isolated, train_here

from cifar import dataset
from cifar.recipes import recipe
from faults import whole
from faults.conftest import Tally

PROCESSES = 10
POLICIES = ("none", "flip", "shift-flip")
EPOCHS = 3
TRAIN = (
    "train", "--network", "tinynet:build", *(word for name in POLICIES for word in ("--augment", name)),
    "--data", "synthetic", "--epochs", str(EPOCHS), "--runs", "together", "--json",
)  # fmt: skip


def start(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cifar", *TRAIN],
        cwd=home, env=isolated(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def trained(err: str) -> list[str]:
    """The policies whose first epoch a process tells of; a title is followed by its run's epochs."""
    blocks = re.split(r"^\[\d+/\d+\] ", err, flags=re.MULTILINE)[1:]
    return [block.split()[1] for block in blocks if f"epoch  1/{EPOCHS}" in block]


@pytest.mark.usefixtures("tiny")
def test_ten_processes_on_one_folder_train_every_run_once_and_damage_none(tmp_path: Path, tally: Tally) -> None:
    processes = [start(tmp_path) for _ in range(PROCESSES)]
    answers = [process.communicate(timeout=400) for process in processes]
    assert {process.returncode for process in processes} <= {0, 5}, [err for _, err in answers]
    assert Counter(name for _, err in answers for name in trained(err)) == dict.fromkeys(POLICIES, 1)
    assert not list(tmp_path.rglob("*.part"))

    wanted = [recipe("tinynet:build", name, epochs=EPOCHS, dataset="synthetic") for name in POLICIES]
    for alone in train_here(wanted, dataset.draw_synthetic(), tmp_path / "alone"):
        together = tmp_path / "together" / alone.path.name
        whole.check(together)
        assert whole.trained(together) == whole.trained(alone.path)
        assert len(whole.outcome(together)["outputs"]) == 3
        tally("runs that ten processes wanted, trained once")
