"""Two revisions of a small checkout with a harness of its own, measured in turn by real sessions."""

import subprocess
from pathlib import Path

import pytest
from conftest import Command

pytestmark = pytest.mark.alone  # they measure
HARNESS = """
import time
import pytest
from speed import DELAY

MACHINE = {
    "format_version": 2,
    "packages": {"tensorflow": "1", "keras": "1", "numpy": "1"},
    "cpu": {"model": "a cpu", "logical_cores": 2, "instruction_sets": []},
    "gpu": None,
    "settings": {},
}


@pytest.mark.parametrize("case", ["one", "two"])
def test_nap(benchmark, case):
    benchmark.extra_info.update(kind="inference", threads=1)
    benchmark.pedantic(time.sleep, args=(DELAY[case],), rounds=20)
"""
CONFTEST = """
from bench.test_nap import MACHINE


def pytest_configure(config):
    config.option.benchmark_save_data = True


def pytest_benchmark_update_machine_info(machine_info):
    machine_info["cifar"] = MACHINE
"""


REVISIONS = {
    "base": "DELAY = {'one': 0.01, 'two': 0.01}",
    "broken": "1 / 0",
    "half": "DELAY = {'one': 0.01}",
    "slow": "DELAY = {'one': 0.02, 'two': 0.02}",
}


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose revision `slow` naps twice as long as `base`, `half` in one row, `broken` in none."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    for folder in ("speed", "bench"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bench" / "__init__.py").touch()
    (tmp_path / "bench" / "conftest.py").write_text(CONFTEST)
    (tmp_path / "bench" / "test_nap.py").write_text(HARNESS)
    for tag, package in REVISIONS.items():
        (tmp_path / "speed" / "__init__.py").write_text(package + "\n")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "--quiet", "-m", tag)
        git(tmp_path, "tag", tag)
    return tmp_path


def worktrees(folder: Path) -> int:
    listed = subprocess.run(["git", "worktree", "list"], cwd=folder, capture_output=True, text=True, check=True)
    return len(listed.stdout.splitlines())


def test_the_slower_revision_is_detected_and_nothing_stays_behind(cifar: Command, checkout: Path) -> None:
    output = cifar("compare", "--revisions", "base", "slow", "--repeats", "3", "--json")
    assert output.code == 1, output.err
    assert {verdict["row"]: verdict["outcome"] for verdict in output.json["verdicts"]} == {
        "test_nap[one]": "regressed",
        "test_nap[two]": "regressed",
    }
    assert 1.6 < output.json["verdicts"][0]["change"] < 2.4
    notes = [line for line in output.err.splitlines() if "Session" in line]
    assert [line.split(": ")[2] for line in notes] == ["base (base)", "head (slow)"] * 3
    assert worktrees(checkout) == 1


def test_one_row_of_a_revision_against_itself(cifar: Command, checkout: Path) -> None:
    output = cifar("compare", "--revisions", "base", "base", "--repeats", "2", "-k", "one", "--json")
    assert output.code == 0, output.err
    (verdict,) = output.json["verdicts"]
    assert verdict["row"] == "test_nap[one]"
    assert verdict["outcome"] in ("unchanged", "inconclusive")
    assert worktrees(checkout) == 1


@pytest.mark.usefixtures("checkout")
def test_a_row_that_fails_in_the_head_has_regressed(cifar: Command) -> None:
    output = cifar("compare", "--revisions", "base", "half", "--repeats", "2", "--json")
    assert output.code == 1, output.err
    assert ("test_nap[two]", "row", "regressed") in [
        (verdict["row"], verdict["quantity"], verdict["outcome"]) for verdict in output.json["verdicts"]
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [(("absent", "base"), 2, "git worktree"), (("base", "broken"), 1, "The session of broken failed")],
)
def test_a_failure_to_measure_is_one_line(
    cifar: Command, checkout: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    output = cifar("compare", "--revisions", *arguments, "--repeats", "2")
    assert output.code == code, output.err
    assert message in output.err.splitlines()[-1]
    assert worktrees(checkout) == 1


def test_outside_of_a_checkout_there_are_no_revisions(cifar: Command) -> None:
    output = cifar("compare", "--revisions", "a", "b")
    assert output.code == 2
    assert "not a git repository" in output.err
