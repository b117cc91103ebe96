"""What the documents say is so."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, isolated
from PIL import Image
from test_foreign import linear
from test_regression import result, steady

from cifar import __version__, networks
from cifar.formats import FORMATS
from cifar.recipes import POLICIES, PROFILES, TRAINING

README = (ROOT / "README.md").read_text()
COMMANDS = (
    *("train", "evaluate", "export", "verify", "compare", "report", "runs", "networks"),
    *("data info", "data fetch", "data verify"),
)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_both_commands_of_the_readme_work_on_python_alone() -> None:
    """They are run by .ci/run and by people; here: that tox knows what they ask for."""
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert lines == [
        "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox -e train",
        "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox",
    ]
    gate = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"grep -E '(.*)' README", gate)
    assert [line for line in README.splitlines() if re.search(pattern, line)] == lines[1:]


def test_the_cifar_commands_of_the_readme_run_as_they_stand(tmp_path: Path) -> None:
    """In their order, in one folder; smaller in epochs, network and data alone, so that they end.

    `compare --revisions` has tests of its own, on a checkout that is measured in seconds.
    """
    (module,) = blocks(README, "python")
    (tmp_path / "mynet.py").write_text(module)
    Image.new("RGB", (64, 48), "navy").save(tmp_path / "picture.png")
    (tmp_path / "exports").symlink_to(ROOT / "exports")
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    ours = [line for line in lines if line.startswith(("cifar ", "python "))]
    commands = [line for line in ours if "--revisions" not in line]
    assert len(commands) == 8
    linear(tmp_path / "model.onnx", ("n", 3, 32, 32))
    for name in ("base", "head"):
        (tmp_path / f"{name}.json").write_text(json.dumps(result(steady())))
    for line in commands:
        smaller = line.replace("--epochs 20", "--epochs 1").replace("first", "second").removeprefix("python ")
        smaller += " --data synthetic" if line.startswith("cifar evaluate") else ""
        start = [sys.executable, "-m"] if line.startswith("cifar ") else [sys.executable]
        done = subprocess.run(
            [*start, *shlex.split(smaller)],
            cwd=tmp_path, env=isolated(tmp_path), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path / "models" / "second-none-s0.onnx").is_file()
    assert (tmp_path / "runs" / "mynet.build-none-s0" / "metrics.json").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_the_command_understands(command: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cifar", *arguments],
            cwd=tmp_path, env=isolated(tmp_path, COLUMNS="200"), capture_output=True, text=True,
        )  # fmt: skip

    shown = run(*command.split(), "--help")
    assert shown.returncode == 0
    (example,) = re.findall(r"Example: cifar (.*)", shown.stdout)
    assert example.startswith(command)
    if command == "train":
        return  # run by the test above
    answer = run(*shlex.split(example))
    assert "Usage:" not in answer.stderr, answer.stderr  # understood; what it names is not there
    assert "Traceback" not in answer.stderr


def test_the_table_of_networks_is_the_code() -> None:
    for name, network in networks.NETWORKS.items():
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", README, flags=re.MULTILINE)
        filters, parameters, batch, epochs, _ = (cell.strip() for cell in row.split("|"))
        assert filters == ", ".join(map(str, network.filters))
        assert parameters == f"{networks.count_parameters(name):,}"
        assert (int(batch), int(epochs)) == (TRAINING[name].batch_size, TRAINING[name].epochs)


def test_every_policy_profile_and_format_is_documented() -> None:
    for name in POLICIES:
        assert f"`{name}`" in README, name
    for name in PROFILES:
        assert f"{name}" in README, name
    contract = (ROOT / "exports" / "README.md").read_text()
    for name in FORMATS:
        assert f"`{name}`" in contract


def test_links_lead_somewhere() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("exports/*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), (document.name, target)


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_is_explained_and_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [entry for entries in project["optional-dependencies"].values() for entry in entries]
    entries = project["dependencies"] + extras
    wanted = {re.split(r"[><=\[]", entry)[0] for entry in entries} - {project["name"]}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    explained = (ROOT / "CONTRIBUTING.md").read_text()
    for name in wanted:
        assert name in pinned, name
        assert re.search(rf"\b{name}\b", explained), name


def test_constraints_name_versions_and_no_index() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+-]+", line), line
