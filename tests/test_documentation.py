"""What the documents say is so."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import ROOT, isolated
from helpers.benchmark_results import benchmark_result, steady_row
from helpers.in_process import run_cli
from helpers.onnx_files import linear
from PIL import Image

from cifar import __version__, networks
from cifar.cli import app
from cifar.formats import FORMATS
from cifar.recipes import POLICIES, PROFILES, RECIPES, recipe
from docs import draw_figures

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
OTHERS = (ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "bench" / "baselines" / "README.md")
EXPORTS = ROOT / "exports" / "README.md"
CARDS = [path for path in sorted((ROOT / "exports").glob("*.md")) if path != EXPORTS]
DOCUMENTS = (README, *DOCS, *OTHERS, EXPORTS, *CARDS)
NETWORKS_AND_RECIPES = ROOT / "docs" / "networks-and-recipes.md"
NAMES_OF_FILES = ("bench/", "exports/", "tests/", "docs/", "constraints", *[f"{name}-" for name in networks.NETWORKS])
MAX_WORDS = 900
OLD_WORDS = r"answers?|answered|rooms?|rungs?|ways|vouch\w*|anybody|foreign|guests?|proven|lack"
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
DATA_COMMANDS = ["data info", "data fetch", "data verify"]

SHORTER = (  # so that the commands of the documents end in seconds: a pattern, and what stands for it
    (r"^cifar train$", "cifar train --profile smoke --data synthetic --network second --augment none --epochs 1"),
    (r"--epochs (2|20)$", "--epochs 1"),
    (r"^(KERAS_BACKEND=jax .*)$", r"\1 --augment none"),
    (r"--profile reference", "--profile smoke --data synthetic --augment none --epochs 1"),
    (r"--augment none,shift-flip --seed 0-2", "--augment none,none --seed 0-0"),
    (r"--seed 0,1$", "--seed 0,0"),
    (r"^cifar verify \S+", "cifar verify runs/second-none-s0"),
    (r"^(python bench/baselines/why.py) .*$", r"\1 runs/second-none-s0"),
    (r"\bfirst\b(?!-tuned-bfloat16)", "second"),  # the released files are as quick
    (r"^(cifar evaluate \S*-bfloat16-\S*-s0\.\S+)$", r"\1 --data synthetic"),
    (r"^(cifar (evaluate|bench) model\.onnx .*)$", r"\1 --data synthetic"),
    (
        r"^cifar diagnose model\.int8\.onnx --float model\.onnx (.*)$",
        r"cifar diagnose exports/second-tuned-bfloat16-shift-flip-s0.int8.onnx \1 --data synthetic --images 10",
    ),
    (r"^(cifar bench .*)$", r"\1 --batch-size 1"),
    (r"^(cifar sweep .*) --on ray ", r"\1 --on slurm --data synthetic "),  # Ray is not there
    (r"^(pytest bench/ .*)$", r"\1 --data synthetic -k 'latency and b1' -p no:cacheprovider"),
)
INSTALLATIONS = (  # they need the network, and change the machine: .ci/run and the workflows run them
    "pip install -c constraints.txt .",
    "pip install -c constraints.txt '.[browser,micro,openvino]'",
    "npm ci --ignore-scripts",
    "make -C exports/examples/c",
    "python3 -m venv .venv",
    ".venv/bin/pip install tox",
    ".venv/bin/pip install tox pre-commit",
    ".venv/bin/pre-commit install",
)
REVISIONS = "cifar compare --revisions "  # has tests of its own, on a checkout that is measured in seconds
TOX = ".venv/bin/tox"
PROGRAMS = {"cifar": ("-m", "cifar"), "python": (), "pytest": ("-m", "pytest")}


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def every_command(document: Path) -> list[str]:
    """The commands of a document, one by one, without their comments."""
    commands = []
    for line in "".join(code_blocks(document.read_text(), "sh")).splitlines():
        for command in line.split("&&"):
            commands.append(shlex.join(shlex.split(command, comments=True)))
    return list(filter(None, commands))


def command_lines(document: Path) -> list[str]:
    """The commands of a document that run anywhere."""
    commands = []
    for command in every_command(document):
        if program_of(command) in PROGRAMS and not command.startswith(REVISIONS):
            commands.append(command)
    return commands


def program_of(command: str) -> str:
    """The first word of a command that sets no variable."""
    return next(word for word in command.split() if not re.match(r"[A-Z_]+=", word))


def tox_arguments(command: str) -> tuple[list[str], list[str]]:
    """The environments that a tox command names, those of `tox` alone by default, and what it gives them."""
    words, _, given = command.removeprefix(TOX).partition(" -- ")
    configuration = tox_configuration()
    names = configuration["tox"]["env_list"].split(", ")
    if words.strip():
        option, name = words.split()
        assert option == "-e", command
        names = [name]
    return names, given.split()


def tox_configuration() -> configparser.ConfigParser:
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read(ROOT / "tox.ini")
    return configuration


def tox_commands(environment: str, arguments: Sequence[str]) -> list[str]:
    """The commands that tox runs in one of its environments."""
    joined = tox_configuration()[f"testenv:{environment}"]["commands"].strip()
    commands = []
    for command in joined.splitlines():
        commands.append(re.sub(r"\{posargs(:[^}]*)?\}", shlex.join(arguments), command).strip())
    return commands


def run_command(line: str) -> None:
    """Run a command line in the current folder: `cifar` in this process, others in their own."""
    words = shlex.split(line)
    program = program_of(line)
    variables = dict(word.split("=") for word in words[: words.index(program)])
    arguments = words[words.index(program) + 1 :]
    if program == "cifar" and not variables:
        output = run_cli(arguments)
        assert output.code == 0, (line, output.err)
        return
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    subprocess.run([sys.executable, *PROGRAMS[program], *arguments], env=kept | variables, check=True)


def run_shortened(lines: Sequence[str]) -> None:
    for line in lines:
        shorter = line
        for pattern, replacement in SHORTER:
            shorter = re.sub(pattern, replacement, shorter)
        run_command(shorter)


@pytest.fixture(scope="module")
def isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home folder without data set, caches and network, for the commands of this file."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CIFAR10_DIR", "CIFAR10_URL", "COLUMNS"):
            patch.delenv(name, raising=False)
        for name, value in isolated(home, COLUMNS="200").items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def workspace(isolated_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """A folder with what the documents name, a finished run among it: the README's first command has trained it."""
    folder = tmp_path_factory.mktemp("workspace")
    (module,) = code_blocks(NETWORKS_AND_RECIPES.read_text(), "python")
    (folder / "mynet.py").write_text(module)
    Image.new("RGB", (64, 48), "navy").save(folder / "picture.png")
    (folder / "exports").symlink_to(ROOT / "exports")
    shutil.copytree(ROOT / "bench", folder / "bench", ignore=shutil.ignore_patterns("figures", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    linear(folder / "model.onnx", ("n", 3, 32, 32))
    for name in ("base", "head"):
        (folder / f"{name}.json").write_text(json.dumps(benchmark_result(steady_row())))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder), *sys.path])
        run_shortened(command_lines(README)[:1])
    return folder


def test_both_commands_of_the_readme_work_on_python_alone() -> None:
    """They are run by .ci/run and by people; here: that tox knows what they need."""
    lines = [line for line in README.read_text().splitlines() if line.startswith("python3 -m venv")]
    assert lines == [
        "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox -e train",
        "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox",
    ]
    gate = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"grep -E '(.*)' README", gate)
    assert [line for line in README.read_text().splitlines() if re.search(pattern, line)] == lines[1:]


def test_the_documents_show_commands() -> None:
    assert len(command_lines(README)) == 4
    assert sum(len(command_lines(document)) for document in DOCS) >= 19
    assert sum(len(command_lines(document)) for document in OTHERS) == 3
    assert sum(len(command_lines(document)) for document in CARDS) == 30
    assert len(command_lines(EXPORTS)) == 2


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_a_document_is_run_by_a_test(document: Path) -> None:
    """Those that run anywhere and those of tox below, installations by CI, `compare --revisions` by its own tests."""
    run_below = command_lines(document)
    for command in every_command(document):
        tested = command in run_below or command in INSTALLATIONS or command.startswith((TOX, REVISIONS))
        assert tested, command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_files_of_this_repository_that_commands_name_are_there(document: Path) -> None:
    folder = document.parent if document in CARDS else ROOT
    for command in every_command(document):
        for word in command.split()[1:]:
            if word.startswith(NAMES_OF_FILES):
                assert (folder / word).exists(), command


TOX_COMMANDS = sorted({line for path in DOCUMENTS for line in every_command(path) if line.startswith(TOX)})


@pytest.mark.parametrize("command", TOX_COMMANDS)
def test_tox_has_the_environments_that_documents_name(command: str) -> None:
    environments, arguments = tox_arguments(command)
    for environment in environments:
        assert tox_commands(environment, arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("isolated_environment")
@pytest.mark.parametrize("command", TOX_COMMANDS)
def test_what_tox_runs_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest finds tests, Python a program; `tox -e train` is the README's first command; tools are installed."""
    monkeypatch.chdir(ROOT)
    environments, arguments = tox_arguments(command)
    for environment in environments:
        for line in tox_commands(environment, arguments):
            program, *words = shlex.split(line)
            if program == "pytest":
                run_command(f"{line} --collect-only -q")
            elif program == "python":
                code = words[1] if words[0] == "-c" else Path(words[0]).read_text()
                compile(code, line, "exec")
            elif program == "cifar":
                assert line in command_lines(README)
            else:
                assert program in tox_configuration()[f"testenv:{environment}"]["deps"]


def test_the_program_of_the_readme_classifies_a_picture(workspace: Path) -> None:
    (program,) = code_blocks(README.read_text(), "python")
    program += "assert probabilities.shape == (1, 10)"
    subprocess.run([sys.executable, "-c", program], cwd=workspace, check=True)


DOCUMENTS_WITH_COMMANDS = [README]
for _path in DOCUMENTS[1:]:
    if command_lines(_path):
        DOCUMENTS_WITH_COMMANDS.append(pytest.param(_path, marks=pytest.mark.slow))


@pytest.mark.parametrize("document", DOCUMENTS_WITH_COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_document_run_as_they_stand(
    document: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, in one folder; with fewer epochs, a small network and synthetic data, so that they end."""
    monkeypatch.chdir(workspace / "exports" if document in CARDS else workspace)  # a card's files lie beside it
    monkeypatch.setattr(sys, "path", [str(workspace), *sys.path])
    run_shortened(command_lines(document))
    assert (workspace / "runs" / "second-none-s0" / "exports" / "second-none-s0.onnx").is_file()
    if document == NETWORKS_AND_RECIPES:
        assert (workspace / "runs" / "mynet.build-none-s0" / "metrics.json").is_file()
    if document.stem == "formats":
        assert (workspace / "models" / "second-none-s0.onnx").is_file()


@pytest.mark.usefixtures("isolated_environment")
@pytest.mark.parametrize("command", [*COMMANDS, *DATA_COMMANDS])
def test_help_shows_an_example_that_the_command_understands(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = run_cli([*command.split(), "--help"])
    assert shown.code == 0
    (example,) = re.findall(r"Example: cifar (.*)", shown.out)
    assert example.startswith(command)
    if command == "train":
        return  # run by the tests above
    output = run_cli(shlex.split(example))
    assert "Usage:" not in output.err, output.err  # understood; the files that it names do not exist here


def test_every_command_is_listed_in_the_readme() -> None:
    listed = re.findall(r"^\| `cifar (\w+)", README.read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted([*COMMANDS, "data"])
    (subcommands,) = re.findall(r"^\| `cifar data (.*) \| ", README.read_text(), flags=re.MULTILINE)
    assert [f"data {name}" for name in re.findall(r"\w+", subcommands)] == DATA_COMMANDS


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= MAX_WORDS


def test_the_readme_has_pictures_that_are_there() -> None:
    pictures = re.findall(r"^!\[.+\]\((.+)\)$", README.read_text(), flags=re.MULTILINE)
    assert 1 <= len(pictures) <= 2
    assert README.read_text().index(pictures[0]) < README.read_text().index("\n## ")


def test_the_figure_of_accuracy_over_cost_is_drawn_from_the_committed_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    drawn = draw_figures.panels()
    for points in drawn.values():
        assert {point.network for point in points} == draw_figures.NETWORK_COLORS.keys()
    with Image.open(draw_figures.ACCURACY_COST) as picture:
        assert picture.info["points"] == draw_figures.digest(drawn)


def test_the_report_of_the_readme_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    committed = draw_figures.REPORT.read_text()
    assert "<image" not in committed
    assert texts(committed) == texts(draw_figures.report_screen())


def texts(svg: str) -> list[str]:
    """The texts of a terminal's picture, in order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_documents_use_the_words_of_the_field(document: Path) -> None:
    lines = document.read_text().splitlines()
    assert [line for line in lines if re.search(rf"\b({OLD_WORDS})\b", line, flags=re.IGNORECASE)] == []


def test_the_table_of_networks_is_the_code() -> None:
    text = NETWORKS_AND_RECIPES.read_text()
    for name, network in networks.NETWORKS.items():
        (row,) = re.findall(rf"^\| `{name}` \| ((?:[^|]*\|){{4}}[^|]*) \|$", text, flags=re.MULTILINE)
        filters, parameters, batch, epochs, _ = (cell.strip() for cell in row.split("|"))
        assert filters == ", ".join(map(str, network.filters))
        assert parameters == f"{networks.count_parameters(name):,}"
        expected = ("-", "-")
        if name in networks.PUBLISHED:
            full = recipe(name, "none", profile="reference")
            expected = (str(full.batch_size), str(full.epochs))
        assert (batch, epochs) == expected


def test_every_policy_profile_and_format_is_documented() -> None:
    text = NETWORKS_AND_RECIPES.read_text()
    for name in (*POLICIES, *PROFILES, *RECIPES):
        assert f"| `{name}`" in text, name
    contract = (ROOT / "exports" / "README.md").read_text()
    choice = (ROOT / "docs" / "formats.md").read_text()
    for name in FORMATS:
        assert f"`{name}`" in contract
        assert f"`{name}`" in choice


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = document.parent / target if target else document
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for document in DOCS:
        assert document.name == "README.md" or f"({document.name})" in index, document.name
        assert document.name == "README.md" or f"(docs/{document.name})" in README.read_text(), document.name


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_module_and_dependency_is_explained() -> None:
    explained = (ROOT / "CONTRIBUTING.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [entry for entries in project["optional-dependencies"].values() for entry in entries]
    dependencies = {re.split(r"[><=\[;]", entry)[0] for entry in project["dependencies"] + extras} - {project["name"]}
    pinned = set()
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pinned.add(line.split("==")[0].lower().replace("_", "-"))
    for name in dependencies:
        assert name in pinned, name
        assert re.search(rf"\b{name}\b", explained), name
    modules = [f"{path.name}/" for path in (ROOT / "cifar").iterdir() if (path / "__init__.py").exists()]
    modules += [path.name for path in (ROOT / "cifar").glob("[!_]*.py")]
    for name in modules:
        assert f"| `{name}` |" in explained, name


def test_constraints_name_versions_and_no_index() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+-]+", line), line
