"""Ten processes train the same runs at once."""

import re
from collections import Counter
from pathlib import Path

import pytest
from conftest import train_here

from cifar.data import dataset
from cifar.recipes import recipe
from faults import whole
from faults.conftest import Tally
from faults.forked import cifar

PROCESSES = 10
POLICIES = ("none", "shift-flip")
EPOCHS = 3
TRAIN = (
    "train", "--network", "tinynet:build", *(word for name in POLICIES for word in ("--augment", name)),
    "--data", "synthetic", "--epochs", str(EPOCHS), "--runs", "together", "--json",
)  # fmt: skip


def trained(err: str) -> list[str]:
    """The policies of which a process reports the first epoch; a title is followed by the epochs of its run."""
    blocks = re.split(r"^\[\d+/\d+\] ", err, flags=re.MULTILINE)[1:]
    return [block.split()[1] for block in blocks if f"epoch  1/{EPOCHS}" in block]


@pytest.mark.usefixtures("tiny")
@pytest.mark.slow
def test_ten_processes_on_one_folder_train_every_run_once_and_damage_none(tmp_path: Path, tally: Tally) -> None:
    processes = [cifar(tmp_path, *TRAIN) for _ in range(PROCESSES)]
    assert {process.end() for process in processes} <= {0, 5}, [process.err for process in processes]
    assert Counter(name for process in processes for name in trained(process.err)) == dict.fromkeys(POLICIES, 1)
    assert not list(tmp_path.rglob("*.part"))

    wanted = [recipe("tinynet:build", name, profile="quick", epochs=EPOCHS, dataset="synthetic") for name in POLICIES]
    for alone in train_here(wanted, dataset.draw_synthetic(), tmp_path / "alone"):
        together = tmp_path / "together" / alone.path.name
        whole.check(together)
        assert whole.trained(together) == whole.trained(alone.path)
        assert len(whole.outcome(together)["outputs"]) == 3
        tally("runs of ten processes, trained once")
