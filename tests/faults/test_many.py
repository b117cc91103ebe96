"""Ten processes want the same runs at once."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from conftest import TINY, isolated

from faults import whole
from faults.conftest import Tally

PROCESSES = 10
POLICIES = ("none", "flip", "shift-flip")
EPOCHS = "3"
TRAIN = (
    "train", "--network", "tinynet:build", *(word for name in POLICIES for word in ("--augment", name)),
    "--data", "synthetic", "--epochs", EPOCHS, "--json",
)  # fmt: skip


def start(home: Path, runs: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cifar", *TRAIN, "--runs", runs],
        cwd=home, env=isolated(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def trained(err: str) -> list[str]:
    """The policies whose first epoch a process tells of; a title is followed by its run's epochs."""
    blocks = re.split(r"^\[\d+/\d+\] ", err, flags=re.MULTILINE)[1:]
    return [block.split()[1] for block in blocks if f"epoch  1/{EPOCHS}" in block]


def test_ten_processes_on_one_folder_train_every_run_once_and_damage_none(tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "tinynet.py").write_text(TINY)
    together = [start(tmp_path, "together") for _ in range(PROCESSES)]
    answers = [process.communicate(timeout=400) for process in together]
    alone = start(tmp_path, "alone")
    _, err = alone.communicate(timeout=200)
    assert alone.returncode == 0, err

    assert {process.returncode for process in together} <= {0, 5}, [err for _, err in answers]
    assert Counter(name for _, err in answers for name in trained(err)) == dict.fromkeys(POLICIES, 1)
    for name in POLICIES:
        run = f"tinynet.build-{name}-s0"
        whole.check(tmp_path / "together" / run)
        assert whole.outcome(tmp_path / "together" / run) == whole.outcome(tmp_path / "alone" / run)
        assert not list((tmp_path / "together").rglob("*.part"))
        tally("runs that ten processes wanted, trained once")
