"""Any command line and any recipe: a documented exit code, one sentence, and nothing written elsewhere."""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
from conftest import TINY, train_here
from helpers.cifar10_copies import closed_address
from helpers.in_process import run_cli
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cifar import export, networks
from cifar.data import dataset, sources
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.export import exporting
from cifar.formats import FORMATS, manifest
from cifar.networks import builder
from cifar.recipes import FIELDS, POLICIES, read, recipe
from cifar.report import figure_files
from cifar.runs.run import Run, locked_run
from cifar.runs.schemas import Identity
from cifar.system import environment
from cifar.training import loop
from faults.conftest import Count, Tally

RUN = "runs/tinynet.build-none-s0"
COMMANDS = [
    ["train"], ["train", "--data", "synthetic"], ["train", "--data", "synthetic", "--quiet"], ["evaluate"],
    ["evaluate", RUN], ["export"], ["export", RUN], ["report"], ["report", "runs"], ["runs"], ["networks"],
    ["networks", "first"], ["recipes"], ["recipes", "tuned"],
    ["data"], ["data", "info"], ["data", "fetch"], ["data", "verify"], [], ["trian"],
    ["predict"], ["predict", RUN], ["predict", RUN, "file"], ["compare"], ["compare", "file"],
]  # fmt: skip
OPTIONS = [
    "--network", "--augment", "--seed", "--profile", "--epochs", "--data", "--data-dir", "--runs", "--threads",
    "--quiet", "--json", "--details", "--format", "--max-drop", "--to", "--pick", "--check", "--help", "-h",
    "--version", "--no-json", "--netwrok", "-x", "--", "-", "---", "--=", "--json=yes", "--epochs=", "--seed=-1",
    "--seed=0-2", "--format=onnx,tflite", "--recipe", "--optimizer", "--learning-rate", "--hold-out", "--precision",
]  # fmt: skip
GOOD = [
    "first", "second", "tinynet:build", "quick", "reference", "auto", "cifar10", "synthetic", "confident", "close",
    "runs", RUN, "0", "1", "2", "file", "folder", *POLICIES, *FORMATS, "all", "first,second", "none,shift-flip",
    "onnx,tflite", "0,1,2", "0-2", "0-1,7", "tuned", "adamw", "bfloat16",
]  # fmt: skip
BAD = [
    "", " ", ".", "..", "../outside", "folder/../..", "~", "[/bold]", "[red]", ":smile:", "\x1b[2J", "a\nb", "\r",
    "\udcff", "é", "٣", "²:²", "x" * 300, "x" * 100_000, "nan", "inf", "-inf", "1e309", "-1", "-0", "1.5", "0x10",
    "1_0", str(2**31), str(2**32), str(2**63), str(2**64), "9" * 5000, "True", "None", "{}", "%s", "$HOME", "*",
    ":", "a:", ":b", "a:b:c", "no.such:thing", "os:getcwd", "..:x", "a..b:c", "tinynet:nothing", "tinynet:failing",
    "tinynet:logits", "json:loads", "tinynet:build\n", "first\n", ",", "first,", ",onnx", "none,,all", "0-", "9-0",
    "0-4294967295", "0-1000", "0,1,x", "1-2-3", ",".join(["first"] * 5000), ",".join(map(str, range(2000))),
]  # fmt: skip
# Not to any place of this machine; of surrogates, arguments hold those of BAD alone.
TEXT = st.text(st.characters(exclude_characters="/~\0", exclude_categories=["Cs"]), max_size=20)
VALUES = {
    "--network": ["first", "second", "tinynet:build"], "--augment": [*POLICIES, "none,flip"], "--seed": ["0", "0,7"],
    "--profile": ["quick", "reference"], "--epochs": ["1", "3"], "--data": ["synthetic"], "--threads": ["1", "2"],
    "--runs": ["runs", "folder/new", "file"], "--format": [*FORMATS, "all", "onnx,tflite"], "--max-drop": ["0", "1"],
    "--to": ["folder"], "--pick": ["close", "first"], "--data-dir": ["folder"], "--json": [], "--quiet": [],
    "--details": [], "--list": [], "--input-range": ["0..1", "-1..1"], "--top": ["1", "10"],
}  # fmt: skip
OWN = {
    "train": [*VALUES][:8], "evaluate": ["--data-dir"], "export": ["--format", "--max-drop", "--to"],
    "report": ["--pick", "--details"], "data": ["--data-dir", "--list"], "predict": ["--input-range", "--top"],
}  # fmt: skip
WORD = st.sampled_from(OPTIONS) | st.sampled_from(GOOD) | st.sampled_from(BAD) | TEXT | st.integers().map(str)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with its own options, some with hostile values; a third of them end with any words."""
    words = list(draw(st.sampled_from(COMMANDS)))
    own = [*OWN.get(words[0] if words else "", []), "--json"]
    for option in draw(st.lists(st.sampled_from(own), max_size=4)):
        words.append(option)
        if VALUES[option]:
            hostile = draw(st.integers(0, 4)) == 0
            words.append(draw(WORD if hostile else st.sampled_from(VALUES[option])))
    more = draw(st.lists(WORD, max_size=4)) if draw(st.integers(0, 2)) == 0 else []
    return words + more


QUIET = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, small: Dataset) -> Iterator[Path]:
    """The current folder, with a finished run; whatever takes seconds is replaced."""
    path = tmp_path_factory.mktemp("arguments") / "home"
    (path / "folder").mkdir(parents=True)
    (path / "file").write_text("a file")
    (path / "tinynet.py").write_text(TINY)
    dense = keras.layers.Dense(10, activation="softmax")
    network = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), dense])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.syspath_prepend(path)
        (run,) = train_here([recipe("tinynet:build", "none", epochs=1, dataset="synthetic")], small, path / "runs")
        export.export_runs([run], small, ["tflite"])
        for name in ("CIFAR10_DIR", "CIFAR10_URL"):
            patch.delenv(name, raising=False)
        for name in ("HOME", "XDG_CACHE_HOME", "KERAS_HOME"):
            patch.setenv(name, str(path / "cache"))
        patch.setattr(sources, "PUBLISHED_URL", closed_address())
        patch.setattr(sources, "MIRRORS", ())
        patch.setattr(dataset, "draw_synthetic", lambda: small)
        patch.setattr(environment, "configure", lambda *_, **__: None)
        patch.setattr(builder, "_build_reference", lambda _: network)
        patch.setattr(sys.modules["tinynet"], "build", lambda: network)
        patch.setattr(loop, "build_with_fresh_names", networks.build)  # clearing Keras's session takes a second
        patch.setattr(loop, "train", lambda *_: None)
        patch.setattr(export, "export_runs", lambda runs, *_, **__: manifest.read(runs[0].path / "exports"))
        patch.setattr(exporting, "load_keras", lambda _: networks.build("tinynet:build"))
        patch.setattr(figure_files, "draw_all", lambda *_, **__: [Path("none")])
        yield path


def tree(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.name != "__pycache__" and path.suffix != ".pyc"}


def writable_folders(home: Path, arguments: list[str]) -> list[Path]:
    """Where a command may always write, and the places that a command line names."""
    words = [part for word in arguments for part in (word, word.partition("=")[2])]
    return [home / "runs", home / "cache", *((home / word).resolve() for word in words if len(word) < 255)]


def test_any_command_line_ends_with_a_documented_exit_code_and_writes_nothing_elsewhere(
    home: Path, count: Count, tally: Tally
) -> None:
    before = tree(home.parent)

    @settings(max_examples=count(350, 7_000), **QUIET)
    @given(command_lines())
    def check(arguments: list[str]) -> None:
        output = run_cli(arguments)
        assert output.code in range(6), output.err
        assert "Traceback" not in output.err
        messages = [line for line in output.err.split("\n") if line.startswith(("error: ", "note: "))]
        assert all(line.isprintable() for line in messages), messages
        errors = [line for line in messages if line.startswith("error: ")]
        assert len(errors) <= 1
        assert output.code == 0 or errors or output.code == 2  # typer explains a malformed one over several lines
        assert all(len(line) < 2100 for line in messages)
        if output.code == 0 and "--json" in arguments and output.out.startswith("{"):
            json.loads(output.out, parse_constant=pytest.fail)
        folders = writable_folders(home, arguments)
        new = tree(home.parent) - before
        outside = [path for path in new if not any(path == top or top in path.parents for top in folders)]
        assert not [path for path in outside if not any(path in top.parents for top in folders)], outside
        for path in sorted(new, reverse=True):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        tally(f"command lines that ended with {output.code}")

    check()
    assert not before - tree(home.parent)


# Recipes.


IDENTITY = Identity.of(recipe("first", "shift-flip", dataset="synthetic"), "d" * 64, "e" * 64)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(BAD),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=5,
)


def places(value: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Every (dict, key) of nested dicts."""
    pairs = []
    for key, item in value.items():
        pairs.append((value, key))
        if isinstance(item, dict):
            pairs += places(item)
    return pairs


@st.composite
def recipe_files(draw: st.DrawFn) -> bytes:
    """A recipe.json that was changed: values, keys, bytes."""
    content = IDENTITY.model_dump()
    for _ in range(draw(st.integers(0, 2))):
        container, key = draw(st.sampled_from(places(content)))
        change = draw(st.sampled_from(["value", "value", "drop", "more"]))
        if change == "value":
            container[key] = draw(JSON)
        elif change == "drop":
            del container[key]
        else:
            container[draw(st.text(max_size=8))] = draw(JSON)
    raw = bytearray(json.dumps(content).encode())
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 9)) == 0 else raw)


def test_any_recipe_is_a_run_or_refused(tmp_path: Path, count: Count, tally: Tally) -> None:
    place = tmp_path / "runs" / IDENTITY.recipe.name
    place.mkdir(parents=True)

    @settings(max_examples=count(150, 3_000), **QUIET)
    @given(recipe_files())
    @example(IDENTITY.model_copy(update={"recipe_sha256": "f" * 64}).model_dump_json().encode())
    def check(content: bytes) -> None:
        (place / "recipe.json").write_bytes(content)
        outcome = "refused"
        with contextlib.suppress(UsageError):
            assert "/" not in Run(place).recipe.name
            outcome = "read"
        tally(f"recipes {outcome}")
        with contextlib.suppress(UsageError), locked_run(tmp_path / "runs", IDENTITY) as run:
            assert run.identity == IDENTITY
        assert (place / "recipe.json").read_bytes() == content
        for path in (tmp_path / "runs").iterdir():
            assert path.name.startswith(place.name)
            if path != place:
                shutil.rmtree(path)

    check()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


FIELD_NAMES = st.sampled_from([*FIELDS, "seed", "network", "networks", "augment", "format_version", "learning_rat"])
TOML_VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.booleans().map(lambda value: str(value).lower()),
    st.sampled_from(['"sgd"', '"linear"', '"lookahead"', '"bfloat16"', '"whitening"', '["none"]', '["nil"]', "[]"]),
    st.sampled_from(["{}", '{"*" = 1}', '{"*" = -1.5}', "1979-05-27", '"\\u0000"', "'''\n", "0x1F", "1e999"]),
)
TABLES = st.sampled_from(["", "\n[network.second]", "\n[network.nil]", "\n[other]", "\n[[network]]"])
VALID_LINES = (
    "epochs = 3",
    "drop_last = true",
    'optimizer = "adamw"',
    "label_smoothing = 0.1",
    'precision = "bfloat16"',
)


@st.composite
def recipe_tomls(draw: st.DrawFn) -> bytes:
    """A recipe file that may be right, wrong in a value, or hardly TOML."""
    lines = [draw(st.sampled_from(['networks = ["second"]', 'networks = ["first", "a:b"]', "networks = 3", ""]))]
    for _ in range(draw(st.integers(0, 4))):
        any_line = f"{draw(FIELD_NAMES)} = {draw(TOML_VALUES)}{draw(TABLES)}"
        lines.append(draw(st.sampled_from([*VALID_LINES, any_line])))
    raw = bytearray("\n".join(lines).encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        if raw:
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


def test_any_recipe_file_is_a_recipe_or_one_sentence(tmp_path: Path, count: Count, tally: Tally) -> None:
    path = tmp_path / "mine.toml"

    @settings(max_examples=count(500, 10_000), **QUIET)
    @given(recipe_tomls())
    @example(b'networks = ["second"]\noptimizer = "sgd"\nmomentum = 0.9\n')
    @example(b"networks = " + b"[" * 20_000)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        refused = ""
        try:
            file = read(str(path))
        except UsageError as error:
            refused = str(error)
        if refused:
            assert refused.isprintable()
            assert str(path) in refused
            tally("recipe files refused")
            return
        full = recipe(file.networks[0], file.augment[0], file=file, profile="reference")
        assert type(full).model_validate_json(full.model_dump_json()) == full
        tally("recipe files read")

    check()
