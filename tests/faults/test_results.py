"""Damaged run folders: `cifar report` and `cifar runs` print a result or one sentence, and write nowhere else."""

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, train_here

from cifar import cli, export
from cifar.analysis.finished_run import FinishedRun
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.formats import manifest
from cifar.metrics import classification
from cifar.recipes import recipe
from cifar.report import figure_files
from cifar.runs.run import Run
from cifar.system import files
from cifar.training import loop
from faults.conftest import Count, Tally

NAMES = ("none-s0", "shift-flip-s0")  # the one that is damaged, and its sound partner
JSON = ("metrics.json", "environment.json", "recipe.json", "exports/manifest.json")
LINES = ("history.jsonl", "timing.jsonl")
FILES = (*JSON, *LINES, "predictions.npz")
COMMANDS = (["report"], ["report", "--details"], ["report", "--json"], ["runs"], ["runs", "--json"])
HOSTILE = [
    None, True, -1, 0, 1, 2, 3, 1 << 31, 1 << 64, 10**400, -(10**400), 0.5, 1e300, 5e-324, float("nan"), float("inf"),
    "", "0.5", "x" * 100_000, "../../../../x", "/etc/passwd", "[/bold]", "[red]", "\x1b[2J", "a\nb", "\0", "\ud800",
    "$x$", "first:second", ":", "..", [], [None], {}, {"a": {}}, [[[[]]]], [0.1, 0.2, 0.3], "cifar10", "synthetic",
]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, small: Dataset) -> Path:
    """Two finished runs of a tiny network, the first with an export."""
    home = tmp_path_factory.mktemp("sound")
    (home / "tinynet.py").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.syspath_prepend(home)
        wanted = [recipe("tinynet:build", name, epochs=2, dataset="synthetic") for name in ("none", "shift-flip")]
        runs = train_here(wanted, small, home / "runs")
        export.export_runs(runs[:1], small, ["tflite"])
    return home / "runs"


@pytest.fixture
def damaged(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Dataset) -> Path:
    """A copy of the runs to damage, in a place without CIFAR-10, where synthetic data are those of the runs."""
    shutil.copytree(sound, tmp_path / "home" / "runs")
    for name in ("CIFAR10_DIR", "CIFAR10_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("cifar.data.dataset.draw_synthetic", lambda: small)
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home" / "runs"


def run_of(runs: Path) -> Path:
    return runs / "tinynet.build-none-s0"


# Damage. Each takes a file of a run and leaves it otherwise.


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inside for place in [(value, key), *places(item)]]


def edit(path: Path, chance: random.Random, change: Callable[[Any, Any], object]) -> None:
    """Change one place of a JSON file, or of one of a file's lines."""
    parts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = chance.randrange(len(parts))
    content = json.loads(parts[number])
    change(*chance.choice(places(content)))
    parts[number] = json.dumps(content)
    path.write_text("\n".join(parts) + "\n")


def drop(path: Path, chance: random.Random) -> None:
    edit(path, chance, lambda container, key: container.pop(key))


def other_value(path: Path, chance: random.Random) -> None:
    edit(path, chance, lambda container, key: container.__setitem__(key, chance.choice(HOSTILE)))


def other_number(path: Path, chance: random.Random) -> None:
    """A figure that is a little off."""

    def change(container: Any, key: Any) -> None:
        if isinstance(container[key], int | float):
            container[key] += chance.choice([-1, 1, 0.01, 1e-9, 1000])

    edit(path, chance, change)


def more(path: Path, chance: random.Random) -> None:
    """One key more."""

    def change(container: Any, _: Any) -> None:
        if isinstance(container, dict):
            container[chance.choice(["x", "", "\x1b[2J", "[/x]", "y" * 100_000])] = chance.choice(HOSTILE)

    edit(path, chance, change)


def other_lines(path: Path, chance: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    changed = chance.choice([lines[:-1], lines[1:], lines * 2, lines[::-1], [*lines, b"\n"], [*lines, b"{}\n"], []])
    path.write_bytes(b"".join(changed))


def truncate(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 3)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def nested(path: Path, chance: random.Random) -> None:
    depth = chance.choice([50, 900, 100_000])
    opening, closing = chance.choice([("[", "]"), ('{"a":', "}")])
    deep = opening * depth + "0" * (opening != "[") + closing * depth
    whole = [deep, '{"format_version": %s}' % deep, '{"format_version": 1, "models": %s}' % deep]  # noqa: UP031
    path.write_text(chance.choice(whole))


def huge(path: Path, _: random.Random) -> None:
    """100 MB that take no room on the disk."""
    with path.open("ab") as stream:
        stream.truncate(100 << 20)


def empty(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def binary(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.choice([1, 100, 10_000])))


def folder_instead(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def missing(path: Path, _: random.Random) -> None:
    path.unlink()


def other_arrays(path: Path, chance: random.Random) -> None:
    """Predictions of other shapes, kinds and values."""
    with np.load(path) as arrays:
        probabilities, labels = arrays["probabilities"], arrays["labels"]
    n = len(labels)
    wrong = {
        "probabilities": [
            probabilities.astype(chance.choice(["f8", "f2", "u1", "c8", "S4", "?"])),
            probabilities[:, :9],
            probabilities[:-1],
            probabilities[np.newaxis],
            probabilities[:0],
            np.full((n, 10), chance.choice([np.nan, np.inf, -1, 2, 1e30]), np.float32),
            np.zeros((n, 10), np.float32),
            np.float32(1),
            np.array([None] * n, object),
            np.zeros(n, [("a", "f4")]),
        ],
        "labels": [
            labels[:-1],
            labels[:, np.newaxis],
            np.full(n, chance.choice([10, 255]), np.uint8),
            labels.astype(chance.choice(["i8", "f4", "S1", "i1"])),
            labels[::-1],
            labels[:0],
            np.uint8(3),
        ],
    }
    kind = chance.choice(["probabilities", "labels", "neither", "both"])
    arrays = {"probabilities": probabilities, "labels": labels}
    if kind == "neither":
        del arrays[chance.choice(["probabilities", "labels"])]
    elif kind == "both":
        keep = chance.choice([0, 1, n // 2, n - 1])
        arrays = {name: array[:keep] for name, array in arrays.items()}
    else:
        arrays[kind] = chance.choice(wrong[kind])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.write_bytes(buffer.getvalue())


ANY = (truncate, flip, huge, empty, binary, folder_instead, missing)
DAMAGES = [
    *((name, damage) for name in FILES for damage in ANY),
    *((name, damage) for name in (*JSON, *LINES) for damage in (drop, other_value, other_value, other_number, more)),
    *(("metrics.json", damage) for damage in (drop, other_value, other_number) * 6),
    *(("recipe.json", other_value) for _ in range(6)),
    *((name, nested) for name in (*JSON, *LINES)),
    *((name, other_lines) for name in LINES * 2),
    *(("predictions.npz", other_arrays) for _ in range(12)),
]


def redigest(run: Path) -> None:
    """Write the digests of the files as they are to metrics.json: other checks must notice what has changed."""
    with contextlib.suppress(Exception):  # what cannot be read has no digest
        metrics = json.loads((run / "metrics.json").read_text())
        metrics["history_sha256"] = files.sha256(run / "history.jsonl")
        with (run / "predictions.npz").open("rb") as stream, np.load(stream) as arrays:
            metrics["probabilities_sha256"] = classification.sha256(arrays["probabilities"])
        (run / "metrics.json").write_text(json.dumps(metrics))


# What the commands say.


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], int]:
    """Run a command in this process; check that it prints a result or one sentence; return its exit code."""

    def run(arguments: list[str]) -> int:
        monkeypatch.setattr("sys.argv", ["cifar", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert code in (0, 2), err
        if code == 2:
            sentence = [line for line in err.splitlines() if not line.startswith("note: ")]
            assert len(sentence) == 1, err
            assert sentence[0].startswith("error: ")
            assert sentence[0].isprintable()
            assert len(sentence[0]) < 2100
            assert out == ""
        elif "--json" in arguments:
            json.loads(out, parse_constant=pytest.fail)
        else:
            assert all(line.isprintable() for line in out.splitlines()), out
        return int(code or 0)

    return run


def everything(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.name != ".lock"}


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_files, "draw_all", lambda *_, **__: [Path("none")])


@pytest.mark.usefixtures("without_figures")
def test_a_damaged_run_gives_a_result_or_one_sentence(
    damaged: Path, small: Dataset, tmp_path: Path, count: Count, tally: Tally, ended: Callable[[list[str]], int]
) -> None:
    run = run_of(damaged)
    shutil.copytree(damaged, tmp_path / "kept")
    for number in range(count(100, 500)):
        chance = random.Random(number)
        name, damage = DAMAGES[number * 7 % len(DAMAGES)]
        damage(run / name, chance)
        if chance.random() < 0.5 and name in ("history.jsonl", "predictions.npz"):
            redigest(run)
        before = everything(tmp_path)
        try:
            codes = {" ".join(command): ended([*command, "runs"]) for command in COMMANDS}
            alone = ended(["report", str(run), "--json"])
            read_or_refused(lambda: manifest.read(run / "exports"))
            read_or_refused(lambda: Run(run).environment)
            read_or_refused(lambda: Run(run).timing)
            if (run / "environment.json").exists():  # resuming compares it
                read_or_refused(lambda: loop._record_environment(Run(run), small))
        except BaseException:
            print(f"case {number}: {damage.__name__} of {name}")
            raise
        assert codes["report"] == codes["report --json"], f"case {number}: {damage.__name__} of {name}"
        assert alone >= codes["report"] or name == "recipe.json"
        assert everything(tmp_path) == before
        tally("result and history files damaged")
        tally("of these refused by report" if codes["report"] else "of these without effect on report")
        shutil.rmtree(run)
        shutil.copytree(tmp_path / "kept" / run.name, run)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("run_name", NAMES)
@pytest.mark.usefixtures("with_pictures")
def test_a_truncated_manifest_is_refused_before_anything_is_printed_or_drawn(
    command: list[str], run_name: str, damaged: Path, tmp_path: Path, ended: Callable[[list[str]], int]
) -> None:
    """Where pictures are shown, they are printed first."""
    path = damaged / f"tinynet.build-{run_name}" / "exports" / "manifest.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"format_version": 2, "models": [{"file": "tinynet')
    before = everything(tmp_path)
    assert ended([*command, "runs"]) == (0 if command[0] == "runs" else 2)
    assert everything(tmp_path) == before


@pytest.fixture
def with_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report in a large terminal with colours."""
    monkeypatch.setattr("cifar.report.terminal._has_colours", lambda _: True)
    monkeypatch.setenv("LINES", "60")


def read_or_refused(read: Callable[[], object]) -> None:
    with contextlib.suppress(UsageError):
        read()


def test_figures_are_drawn_of_extreme_values_that_are_not_refused(
    damaged: Path, tmp_path: Path, count: Count, tally: Tally, ended: Callable[[list[str]], int]
) -> None:
    """The most extreme values that a run folder may hold."""
    run = run_of(damaged)
    metrics = json.loads((run / "metrics.json").read_text())
    history = (run / "history.jsonl").read_text().splitlines()
    outside = everything(tmp_path.parent)
    for value in [1e39, 0.0, 5e-324, 1e-300, 3e38][: count(1, 5)]:
        lines = [{**json.loads(line), "loss": value, "test_loss": value, "accuracy": 1.0} for line in history]
        (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (run / "metrics.json").write_text(json.dumps({**metrics, "train_loss_clean": value, "n_train": 2**63 - 1}))
        redigest(run)
        for folder in ("runs", f"runs/{run.name}"):
            assert ended(["report", folder]) == 0
        tally("figures drawn of hostile values")
    drawn = {path for path in set(everything(tmp_path.parent)) - set(outside) if path.is_file()}
    assert {path.suffix for path in drawn} == {".png"}
    assert {path.parent for path in drawn} == {damaged / "figures", run / "figures"}


def test_a_run_without_a_recorded_setting_cannot_be_resumed(damaged: Path, small: Dataset) -> None:
    path = run_of(damaged) / "environment.json"
    content = json.loads(path.read_text())
    del content["settings"]["TF_ENABLE_ONEDNN_OPTS"]
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="TF_ENABLE_ONEDNN_OPTS was not recorded, is 1"):
        loop._record_environment(Run(run_of(damaged)), small)


@pytest.mark.parametrize(
    "network", ["../../../outside", "a/b", "[/bold]", "$x$", "x\x1b[2J", "", "a:b:c", "\0", "a b"]
)
def test_an_invalid_network_name_is_refused(
    network: str, damaged: Path, ended: Callable[[list[str]], int], tmp_path: Path
) -> None:
    """It would become part of the figures' names."""
    recipe_file = run_of(damaged) / "recipe.json"
    content = json.loads(recipe_file.read_text())
    content["recipe"]["network"] = network
    recipe_file.write_text(json.dumps(content))
    before = everything(tmp_path)
    assert ended(["report", "runs"]) == 2
    assert everything(tmp_path) == before


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("name", ["[bold]", "[red]x", "x\x1b[2Jy", "a\nb", ":smile:", "\udcff", "-", "--json"])
def test_a_run_folder_of_any_name_is_listed(name: str, damaged: Path, ended: Callable[[list[str]], int]) -> None:
    run_of(damaged).rename(damaged / name)
    for command in COMMANDS:
        assert ended([*command, "runs"]) == 0


@pytest.mark.parametrize("name", ["history.jsonl", "predictions.npz"])
def test_a_file_other_than_the_one_that_metrics_describe_is_named(name: str, damaged: Path) -> None:
    run = run_of(damaged)
    if name == "history.jsonl":
        lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
        lines[0]["loss"] += 1e-9
        (run / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        with np.load(run / name) as arrays:
            probabilities, labels = arrays["probabilities"], arrays["labels"]
        np.savez(run / name, probabilities=probabilities * np.float32(0.999), labels=labels)
    with pytest.raises(UsageError, match=f"{name}: not the one that metrics.json was written beside"):
        FinishedRun(Run(run))
    redigest(run)
    FinishedRun(Run(run))  # nothing else is wrong with it


@pytest.mark.parametrize(
    ("field", "value"),
    [("loss", -0.1), ("test_loss", 1e40), ("accuracy", 1.1), ("test_accuracy", -0.1), ("loss", None), ("epoch", 0)],
)
def test_values_that_no_training_gives_are_refused(
    field: str, value: float | None, damaged: Path, ended: Callable[[list[str]], int]
) -> None:
    run = run_of(damaged)
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    lines[0][field] = value
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    redigest(run)
    assert ended(["report", "runs"]) == 2


@pytest.mark.parametrize("name", ["metrics.json", "history.jsonl", "recipe.json"])
def test_a_large_file_takes_no_memory(name: str, damaged: Path) -> None:
    import tracemalloc

    huge(run_of(damaged) / name, random.Random(0))
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=f"{name}: 104,857,600 bytes are too many"):
            _ = Run(run_of(damaged)).metrics, Run(run_of(damaged)).history
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_predictions_that_would_fill_the_memory_are_refused(damaged: Path) -> None:
    path = run_of(damaged) / "predictions.npz"
    np.savez_compressed(path, probabilities=np.zeros((10_000_000, 10), np.float32), labels=np.zeros(1, np.uint8))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UsageError, match="unpacked are too many"):
        Run(run_of(damaged)).predictions()


@pytest.mark.parametrize("file", ["../x.onnx", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "x\0", "y" * 300])
def test_a_manifest_that_lists_a_file_elsewhere_is_refused(file: str, damaged: Path) -> None:
    path = run_of(damaged) / "exports" / "manifest.json"
    content = json.loads(path.read_text())
    content["models"][0]["file"] = file
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"models\.0\.file: "):
        manifest.read(path.parent)


def test_a_manifest_of_a_newer_version_is_said_so(damaged: Path) -> None:
    path = run_of(damaged) / "exports" / "manifest.json"
    content = json.loads(path.read_text())
    content["models"][0]["sparsity"] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"models\.0\.sparsity: this version of cifar-bench knows no such field"):
        manifest.read(path.parent)
