"""The imports of cifar/ go downwards only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# Each room may import rooms that stand further down, and no other. Rooms on one line do not know each other.
STOREYS = [
    ["cifar.__main__"],
    ["cifar.cli"],
    ["cifar.verify"],
    ["cifar.training.sweep"],
    ["cifar.export", "cifar.inference.scoring"],
    ["cifar.report"],
    ["cifar.formats.manifest"],
    ["cifar.compare.revisions"],
    ["cifar.compare"],
    ["cifar.compare.results"],
    ["cifar.formats", "cifar.training.loop"],
    ["cifar.training.backends"],
    ["cifar.training.checkpoint"],
    ["cifar.runs.run"],
    [
        "cifar.data.augmentation",
        "cifar.metrics.classification",
        "cifar.data.dataset",
        "cifar.networks",
        "cifar.training.step",
    ],
    ["cifar.data.download"],
    ["cifar.runs.schemas"],
    ["cifar.recipes"],
    [
        "cifar.data.archive",
        "cifar.system.environment",
        "cifar.system.files",
        "cifar.metrics.statistics",
        "cifar.data.synthetic",
    ],
    ["cifar.system.child_process", "cifar.system.hardware", "cifar.data.pickles"],
    ["cifar.errors"],
    ["cifar"],
]


def room(module: str) -> str:
    """cifar.cli.train -> cifar.cli."""
    return ".".join(module.split(".")[:2])


def imports(path: Path) -> set[str]:
    """The rooms of this package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "cifar":
            found |= {f"cifar.{alias.name}" for alias in node.names if alias.name != "__version__"} or {"cifar"}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {room(name) for name in found if name.split(".")[0] == "cifar"}


FILES = sorted((ROOT / "cifar").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    mine = room(".".join(part for part in parts if part != "__init__"))
    level = {name: index for index, names in enumerate(STOREYS) for name in names}
    for other in imports(path) - {mine}:
        assert level[other] > level[mine], f"{mine} imports {other}"


LOOK = """
import sys
from cifar.cli import main
try:
    main()
finally:
    print(sorted({"tensorflow", "keras", "matplotlib"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", ["--help", "--version", "train --help", "report --help", "data info", "train --network frist"]
)
def test_help_and_refusals_import_nothing_heavy(arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK, *arguments.split()], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("[]"), done.stderr


MEASURED = """
import sys
import cifar.benchmark.worker
from cifar.formats import FORMATS
rooms = [each.module for each in FORMATS.values()]
print(sorted({"tensorflow", "keras", "jax", "onnx", "pydantic", "rich", "matplotlib"} & set(sys.modules)))
"""


def test_a_process_that_is_measured_carries_nothing_that_its_runtime_does_not_need() -> None:
    """Each of these would be in the time to the first answer, and in the memory, of every format."""
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
