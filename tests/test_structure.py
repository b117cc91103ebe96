"""The layout of the package: imports go downwards only, and nothing heavy is imported before it is needed."""

import ast
import graphlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from conftest import ROOT

MAX_TOP_MODULES = 20
# From top to bottom: a module may import those below it and those of its own layer's package.
LAYERS = [
    "cifar.__main__",
    "cifar.cli",
    "cifar.benchmark",
    "cifar.report",
    "cifar.compare",
    "cifar.analysis",
    "cifar.verify",
    "cifar.diagnosis",
    "cifar.export",
    "cifar.inference",
    "cifar.formats",
    "cifar.training",
    "cifar.runs",
    "cifar.data",
    "cifar.networks",
    "cifar.metrics",
    "cifar.recipes",
    "cifar.system",
    "cifar.errors",
    "cifar",
]


def module_name(path: Path) -> str:
    """cifar/cli/train.py -> cifar.cli.train, cifar/cli/__init__.py -> cifar.cli."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def layer(module: str) -> str:
    """cifar.cli.train -> cifar.cli."""
    return ".".join(module.split(".")[:2])


PATHS = {module_name(path): path for path in sorted((ROOT / "cifar").rglob("*.py"))}


def imported_names(path: Path) -> Iterator[str]:
    """Every name that a file imports, at its top or inside a function: `from a import b` is `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path: Path) -> set[str]:
    """The modules of the package that a file imports."""
    modules = set()
    for name in imported_names(path):
        if name.split(".")[0] == "cifar":
            modules.add(name if name in PATHS else name.rpartition(".")[0])
    return modules


def test_the_top_of_the_package_is_small_and_every_module_of_it_has_a_layer() -> None:
    top = {layer(module) for module in PATHS}
    assert len(top) <= MAX_TOP_MODULES
    assert top == set(LAYERS)


@pytest.mark.parametrize("module", PATHS)
def test_imports_go_downwards(module: str) -> None:
    own = layer(module)
    for imported in imported_modules(PATHS[module]):
        other = layer(imported)
        assert other == own or LAYERS.index(other) > LAYERS.index(own), f"{module} imports {imported}"


def test_there_are_no_import_cycles() -> None:
    graph = {module: imported_modules(path) - {module} for module, path in PATHS.items()}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules


@pytest.mark.parametrize(
    ("folder", "forbidden"), [("cifar", {"bench", "tests", "conftest", "helpers"}), ("bench", {"tests", "helpers"})]
)
def test_the_package_imports_neither_benchmarks_nor_tests(folder: str, forbidden: set[str]) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        roots = {name.split(".")[0] for name in imported_names(path)}
        assert not roots & forbidden, path


# Command lines that need neither a framework nor figures, run in one new process, as is the help of every command.
LIGHT = [
    "--help", "-h", "--version", "train --help", "data -h", "data info", "--show-completion bash",
    "train --network frist", "train --seed 9-0", "export absent --format onxn", "evaluate absent", "networks frist",
    "verify absent --check export", "report absent",
]  # fmt: skip
RUN_LIGHT = """
import contextlib, io, json, sys
from cifar.cli import app, main
heavy = {"tensorflow", "keras", "jax", "matplotlib"}
imported = {}
for line in [*sys.argv[1:], *(f"{command.callback.__name__} -h" for command in app.registered_commands)]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(line.split())
    imported[line] = sorted(heavy & set(sys.modules))
print(json.dumps(imported))
"""


def test_help_and_refusals_import_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", RUN_LIGHT, *LIGHT], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout)
    assert imported.keys() > {*LIGHT, "report -h", "networks -h"}
    assert not any(imported.values()), imported


MEASURED = """
import sys
import cifar.benchmark.jobs
from cifar.formats import FORMATS
modules = [each.module for each in FORMATS.values()]
print(sorted({"tensorflow", "keras", "jax", "onnx", "pydantic", "rich", "matplotlib"} & set(sys.modules)))
"""


def test_a_measured_process_imports_nothing_that_its_runtime_does_not_need() -> None:
    """Each of these would be part of every format's cold start and memory."""
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


def test_the_wheel_has_every_file_of_the_package() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = set(tables["tool"]["setuptools"]["package-data"]["cifar"])
    others = [path for path in (ROOT / "cifar").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    names = {path.relative_to(ROOT / "cifar").as_posix() for path in others}
    assert {name for name in names if not any(fnmatch(name, pattern) for pattern in shipped)} == set()
    assert {pattern for pattern in shipped if not any(fnmatch(name, pattern) for name in names)} == set()


OF_A_CLONE = re.compile(
    r"(?<![\w/}])(exports|docs|bench|tests|\.ci|\.github)/|\b(README|CONTRIBUTING|CHANGELOG)\b|pytest "
)


def shown_texts(path: Path) -> Iterator[str]:
    """The texts of a module that a user can see: all but docstrings, which are shown by the commands alone."""
    tree = ast.parse(path.read_text())
    unseen = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and path.parent.name != "cli":
            unseen.add(node.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in unseen:
            yield node.value


@pytest.mark.parametrize("module", PATHS)
def test_messages_point_to_nothing_that_only_a_clone_has(module: str) -> None:
    for text in shown_texts(PATHS[module]):
        assert not OF_A_CLONE.search(text), text
