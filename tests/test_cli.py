import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Command, isolated
from helpers.in_process import Output, run_cli
from typer.main import get_command

from cifar.cli import app
from cifar.cli.verify import CHECK_NAMES
from cifar.networks import NETWORKS
from cifar.runs.run import Run
from cifar.system import environment, files
from cifar.verify import CHECKS

FAST = ("train", "--network", "tinynet:build", "--augment", "none", "--data", "synthetic", "--epochs", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/ of a user's network, made by the command line, and what it printed."""
    home = tmp_path_factory.mktemp("cli")
    (home / "tinynet.py").write_text(TINY)
    command = [sys.executable, "-m", "cifar", *FAST, "--augment", "shift-flip"]
    done = subprocess.run(command, cwd=home, env=isolated(home), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (home / "out.txt").write_text(done.stdout)
    (home / "err.txt").write_text(done.stderr)
    return home


def run_in(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cifar", *arguments],
        cwd=folder, env=isolated(folder, **variables), capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def in_trained(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is in the folder of `trained`, isolated like one of its own."""
    isolate(trained, monkeypatch)
    return trained


@pytest.fixture
def with_tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is in a new folder with the module `tinynet`, isolated like one of its own."""
    (tmp_path / "tinynet.py").write_text(TINY)
    isolate(tmp_path, monkeypatch)


def isolate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `folder` the current one, its modules the first to be found, and hide the user's data and settings."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "tinynet", raising=False)
    variables = isolated(folder)
    for name in os.environ.keys() - variables.keys():
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def run_json(*arguments: str) -> Any:
    output = run_cli([*arguments, "--json"])
    assert output.code == 0, output.err
    return output.json


def test_train_ends_with_runs_exports_figures_and_a_report(trained: Path) -> None:
    for name in ("tinynet.build-none-s0", "tinynet.build-shift-flip-s0"):
        run = Run(trained / "runs" / name)
        assert run.finished
        assert {path.name for path in (run.path / "exports").iterdir()} >= {
            f"{name}.onnx", f"{name}.tflite", f"{name}.saved_model", "manifest.json",
        }  # fmt: skip
    assert {path.name for path in (trained / "runs" / "figures").glob("[!.]*")} == {
        f"tinynet.build-quick-{name}.png" for name in ("confusion", "curves", "misclassified")
    }
    out = (trained / "out.txt").read_text()
    for words in (
        "Results", "cannot show an augmentation gain", "Misclassified pictures: runs", "Figures: ", "Models: runs",
        "Page: runs/report.html",
        "SYNTHETIC DATA",
    ):  # fmt: skip
        assert words in out


@pytest.mark.usefixtures("in_trained")
def test_a_report_with_details_has_every_table() -> None:
    out = run_cli(["report", "--details"]).out
    for words in ("Accuracy", "Augmentation gain", "too short to judge", "Misclassified", "SYNTHETIC DATA"):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_report_in_a_file_fits_80_columns_and_has_no_colours(trained: Path) -> None:
    out = (trained / "out.txt").read_text()
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert "▀" not in out


def test_progress_without_a_terminal_is_a_plain_line_per_epoch(trained: Path) -> None:
    err = (trained / "err.txt").read_text()
    assert "\x1b" not in err
    lines = [line for line in err.splitlines() if line.startswith("  epoch")]
    assert len(lines) == 2
    assert re.fullmatch(
        r"  epoch  1/1  loss \d\.\d{3}  accuracy +[\d.]+%  test +[\d.]+%  [\d,]+ images/s  \d:\d\d:\d\d left",
        lines[0],
    )


@pytest.mark.usefixtures("in_trained")
def test_a_finished_run_is_kept_and_json_stands_alone_on_stdout() -> None:
    facts = [path for path in Path().glob("runs/*/*.*") if path.is_file()]
    before = {path.name: files.sha256(path) for path in facts}
    output = run_cli([*FAST, "--json"])
    (entry,) = output.json["runs"]
    assert entry["path"] == "runs/tinynet.build-none-s0"
    assert (entry["network"], entry["augment"], entry["seed"]) == ("tinynet:build", "none", 0)
    assert len(entry["weights_sha256"]) == 64
    assert 0 < entry["accuracy"] < 1
    assert "is finished already" in output.err
    assert {path.name: files.sha256(path) for path in facts} == before


@pytest.mark.usefixtures("in_trained")
def test_evaluate_repeats_the_recorded_scores() -> None:
    scores = run_json("evaluate", "runs/tinynet.build-none-s0")
    metrics = Run(Path("runs/tinynet.build-none-s0")).metrics
    assert scores["accuracy"] == metrics.accuracy == scores["recorded_accuracy"]
    assert (scores["correct"], scores["n_test"]) == (metrics.correct, 1000)


@pytest.mark.usefixtures("in_trained")
@pytest.mark.parametrize("path", ["runs/{}", "runs/{}/exports/{}.onnx"])
def test_test_time_augmentation_has_a_column_of_its_own(path: str) -> None:
    arguments = ["evaluate", path.format(*["tinynet.build-none-s0"] * 2)]
    plain = run_json(*arguments)
    scores = run_json(*arguments, "--test-time-augmentation", "mirror")
    augmented = scores.pop("test_time_augmentation")
    assert scores == plain
    assert augmented["name"] == "mirror"
    assert augmented["n_test"] == 1000
    assert augmented["loss"] != plain["loss"]
    shown = run_cli([*arguments, "--test-time-augmentation", "mirror"]).out
    head, total = (line.split() for line in shown.splitlines()[1:3])
    assert head == ["class", "accuracy", "with", "mirror"]
    assert total == ["all", f"{plain['accuracy']:.1%}", f"{augmented['accuracy']:.1%}"]
    low, high = augmented["accuracy_interval"]
    assert f"(mirror): {augmented['correct']} of 1,000 correct; 95 % interval {low:.1%} to {high:.1%}" in " ".join(
        shown.split()
    )


@pytest.mark.usefixtures("in_trained")
def test_export_to_another_folder(tmp_path: Path) -> None:
    name = "tinynet.build-none-s0"
    exports = run_json("export", f"runs/{name}", "--format", "onnx", "--to", str(tmp_path), "--card")["exports"]
    assert [entry["file"] for entry in exports] == [f"{name}.onnx"]
    assert exports[0]["sha256"] in (tmp_path / f"{name}.md").read_text()
    assert (tmp_path / f"{name}.onnx").is_file()


@pytest.mark.usefixtures("in_trained")
def test_export_takes_a_list_of_formats_once_each(tmp_path: Path) -> None:
    formats = ["--format", "onnx,tflite", "--format", "onnx"]
    exports = run_json("export", "runs/tinynet.build-none-s0", *formats, "--to", str(tmp_path))["exports"]
    assert [entry["format"] for entry in exports] == ["onnx", "tflite"]


@pytest.mark.usefixtures("in_trained")
def test_runs_lists_every_run_with_its_state() -> None:
    rows = run_json("runs")["runs"]
    assert [(row["augment"], row["status"], row["epochs_done"]) for row in rows] == [
        ("none", "finished", 1),
        ("shift-flip", "finished", 1),
    ]
    assert "tinynet.build-none-s0" in run_cli(["runs"]).out


@pytest.mark.usefixtures("in_trained")
def test_report_as_json_has_gains_claims_and_pictures() -> None:
    report = run_json("report", "--pick", "close")
    assert len(report["runs"]) == 2
    assert [gain["augment"] for gain in report["gains"]] == ["shift-flip"]
    assert {claim["verdict"] for claim in report["claims"]} == {"too short to judge"}
    assert all(len(run["misclassified"]) == 10 for run in report["runs"])
    assert all(Path(path).is_file() for path in report["figures"])


@pytest.mark.usefixtures("in_trained")
def test_a_report_as_markdown_has_the_tables_of_the_terminal() -> None:
    shown = run_cli(["report", "--details", "--markdown", "tables.md"]).out
    text = Path("tables.md").read_text()
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert len(titles) >= 4
    assert all(title in " ".join(shown.split()) for title in titles)
    refused = run_cli(["report", "--trend", "--markdown", "other.md"])
    assert (refused.code, refused.out) == (2, "")
    assert not Path("other.md").exists()


@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_report_shows_pictures_where_there_is_colour(trained: Path, columns: str) -> None:
    terminal = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color", "COLUMNS": columns}
    coloured = run_in(trained, "report", "--details", **terminal).stdout
    assert coloured.count("▀") == 2 * 10 * 15 * 8
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert max(map(len, plain.splitlines())) <= int(columns)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "xterm", "COLORTERM": ""}, {"TERM": "dumb"}])
def test_a_report_without_colours_has_a_table_instead_of_pictures(trained: Path, variables: dict[str, str]) -> None:
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80", **variables}
    shown = run_in(trained, "report", "runs/tinynet.build-none-s0", "--details", **terminal).stdout
    assert "▀" not in shown
    assert "confidence" in shown


@pytest.mark.usefixtures("in_trained")
@pytest.mark.parametrize("name", [None, "first", "tinynet:build"])
def test_networks(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.setattr(environment, "configure", lambda **_: None)  # this process runs with two threads already
    arguments = ["networks", *([name] if name else [])]
    facts = run_json(*arguments)["networks"]
    assert [entry["network"] for entry in facts] == ([name] if name else list(NETWORKS))
    shown = run_cli(arguments).out
    assert max(map(len, shown.splitlines())) <= 80
    for entry in facts:
        assert f"{entry['parameters']:,}" in shown
    if name == "first":
        assert "(None, 30, 30, 32)" in shown
        assert "276,138" in shown
    if name != "tinynet:build":
        assert "first (32-64-64)" in shown


REFUSALS = [
    (("train", "--network", "frist"), 2, ["'frist'", "Did you mean 'first'", "first, second, third"]),
    (("train", "--augment", "shift-flop"), 2, ["Did you mean 'shift-flip'", "none"]),
    (("train", "--profile", "quik"), 2, ["Did you mean 'quick'", "reference"]),
    (("train", "--data", "cifar"), 2, ["Did you mean 'cifar10'", "synthetic"]),
    (("train", "--epochs", "0"), 2, ["--epochs"]),
    (("train", "--epochs", "many"), 2, ["--epochs", "integer"]),
    (("train", "--seed", "-1"), 2, ["--seed -1", "1,2,3", "1-9"]),
    (("train", "--seed", "0-2000"), 2, ["2,001 numbers", "at most 1,000"]),
    (("train", "--seed", "0-600", "--seed", "601-1200"), 2, ["1,201 numbers", "at most 1,000"]),
    (("train", "--seed", "4294967296"), 2, ["--seed", "4294967295"]),
    (("bench", "absent.onnx", "--batch-size", "0,8"), 2, ["--batch-size 0,8", "from 1 to 4096"]),
    (("train", "--augment", "none,shift-flop"), 2, ["Did you mean 'shift-flip'"]),
    (("train", "--device", "tpu"), 2, ["no device 'tpu'", "cpu, gpu"]),
    (("train", "--threads", "0"), 2, ["--threads"]),
    (("train", "--netwrok", "first"), 2, ["--network"]),
    (("trian",), 2, ["trian"]),
    (("train", "--network", "no.such:thing", "--data", "synthetic"), 2, ["cannot import 'no.such'"]),
    (("train", "--data", "synthetic", "--data-dir", "."), 2, ["--data-dir"]),
    (("train", "--data", "cifar10"), 3, ["--data-dir", "CIFAR10_DIR", "CIFAR10_URL", "--data synthetic"]),
    (("train", "--data-dir", "absent"), 3, ["absent", "cifar-10-batches-py"]),
    (("data", "verify", "absent"), 3, ["absent"]),
    (("data", "verify", "a", "--data-dir", "b"), 2, ["a and --data-dir b"]),
    (("data", "fetch"), 3, ["no connection"]),
    (("evaluate", "absent"), 2, ["absent", "no such run folder"]),
    (("evaluate", "."), 2, ["not a run folder"]),
    (("evaluate", ".", "--test-time-augmentation", "miror"), 2, ["Did you mean 'mirror'", "mirror, mirror-shift"]),
    (("export", "absent"), 2, ["absent"]),
    (("export", "absent", "--format", "onxn"), 2, ["Did you mean 'onnx'", "tflite"]),
    (("export", "absent", "--format", "onnx,tflit"), 2, ["Did you mean 'tflite'"]),
    (("export", "absent", "--format", "onnx", "tflite"), 2, ["tflite"]),
    (("verify", "absent", "--check", "images,exprts"), 2, ["Did you mean 'exports'", "all"]),
    (("report", "absent"), 2, ["absent"]),
    (("report", "."), 2, ["no run in it"]),
    (("report", "--pick", "confidant"), 2, ["Did you mean 'confident'"]),
    (("runs", "absent"), 2, ["absent"]),
    (("runs", "x" * 300), 2, ["File name too long"]),
    (("networks", "fourth"), 2, ["first, second, third"]),
]


REFUSAL_IDS = [" ".join(arguments)[:60] for arguments, _, _ in REFUSALS]
TYPICAL = [REFUSALS[REFUSAL_IDS.index(name)] for name in ("train --network frist", "trian", "data verify absent")]


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSALS, ids=REFUSAL_IDS)
def test_bad_input_is_one_clear_sentence_and_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, words: list[str]
) -> None:
    isolate(tmp_path, monkeypatch)
    check_refusal(run_cli(arguments), code, words)
    assert not list(tmp_path.glob("runs/**/*"))


@pytest.mark.parametrize(("arguments", "code", "words"), TYPICAL)
def test_bad_input_in_a_process_of_its_own(
    cifar: Command, tmp_path: Path, arguments: tuple[str, ...], code: int, words: list[str]
) -> None:
    result = cifar(*arguments)
    check_refusal(Output(result.code, result.out, result.err), code, words)
    assert not list(tmp_path.glob("runs/**/*"))


def check_refusal(output: Output, code: int, words: list[str]) -> None:
    assert output.code == code, output.err
    assert output.out == ""
    for word in words:
        assert word in " ".join(output.err.split()), output.err


ROOT_COMMANDS = [
    "train", "report", "runs", "evaluate", "predict", "export", "parity", "diagnose", "bench", "compare", "verify",
    "sweep",
    "recipes", "networks", "data",
]  # fmt: skip


def command_paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command and group below `command`, itself included."""
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from command_paths(child, (*path, name))


def test_the_help_lists_the_commands_in_the_order_in_which_a_user_meets_them() -> None:
    listed = re.findall(r"^  (\w+)  +\w", run_cli(["-h"]).out.partition("Commands:")[2], re.MULTILINE)
    assert listed == ROOT_COMMANDS


@pytest.mark.parametrize("path", [*command_paths(get_command(app))], ids=" ".join)
def test_help_of_every_command(path: tuple[str, ...]) -> None:
    output = run_cli([*path, "-h"])
    assert (output.code, output.err) == (0, "")
    assert output == run_cli([*path, "--help"])
    assert max(map(len, output.out.splitlines())) <= 80
    assert "..." not in output.out.partition("Commands:")[2], "a command's first sentence is too long for the list"
    if "Commands:" not in output.out:
        example = output.out.partition("Example: ")[2].splitlines()[0]
        assert example.startswith(" ".join(("cifar", *path)))


@pytest.mark.parametrize(
    ("typed", "completions"),
    [
        ("cifar exp", ["export"]),
        ("cifar networks s", ["second"]),
        ("cifar train --network f", ["first"]),
        ("cifar train --augment flip,shift-flip-", ["flip,shift-flip-rotate"]),
        ("cifar train --profile q", ["quick"]),
        ("cifar train --data s", ["synthetic"]),
        ("cifar export RUN --format onnx,onnx", ["onnx,onnx-int8"]),
        ("cifar verify RUN --check e", ["exports"]),
        ("cifar report --pick su", ["surprising"]),
    ],
)
def test_the_shell_completes_commands_and_listed_values(
    monkeypatch: pytest.MonkeyPatch, typed: str, completions: list[str]
) -> None:
    monkeypatch.setenv("_CIFAR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert run_cli([]).out.splitlines() == completions


def test_the_command_line_lists_every_check() -> None:
    assert tuple(CHECKS) == CHECK_NAMES


@pytest.mark.usefixtures("with_tiny")
def test_auto_without_cifar10_says_so_plainly() -> None:
    arguments = [word for word in FAST if word not in ("--data", "synthetic")]
    output = run_cli([*arguments, "--quiet", "--json"])
    assert output.code == 0
    assert "SYNTHETIC DATA" in output.err
    assert output.json["runs"][0]["dataset"] == "synthetic"


@pytest.mark.usefixtures("with_tiny")
def test_a_diverged_run_is_marked_the_others_go_on_and_the_end_is_1() -> None:
    arguments = [*FAST, "--network", "tinynet:exploding", "--json", "--quiet"]
    output = run_cli(arguments)
    assert output.code == 1
    assert [run["status"] for run in output.json["runs"]] == ["finished", "diverged"]
    assert "diverged" in output.err
    assert run_cli(arguments).code == 1


@pytest.mark.usefixtures("with_tiny")
def test_an_unwritable_folder_is_4_and_names_the_path() -> None:
    Path("file").write_text("in the way")
    output = run_cli([*FAST, "--quiet", "--runs", "file/runs"])
    assert output.code == 4
    assert "file" in output.err
    assert "cannot be written" in output.err


def test_a_full_disk_is_4_and_the_epochs_before_it_are_kept(tmp_path: Path) -> None:
    """Files of 1 MB at most: recipe and environment fit, the checkpoint of `second` does not."""
    done = subprocess.run(
        [sys.executable, "-m", "cifar", *FAST[:1], "--network", "second", *FAST[3:], "--quiet"],
        cwd=tmp_path, env=isolated(tmp_path), capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "checkpoint.npz" in done.stderr
    assert "Traceback" not in done.stderr
    kept = {path.name for path in (tmp_path / "runs" / "second-none-s0").iterdir()}
    assert kept == {"recipe.json", "environment.json", ".lock"}


LOCK = """
import sys, time
from pathlib import Path
from cifar.system.files import lock
with lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(99)
"""


@pytest.mark.usefixtures("with_tiny")
def test_a_locked_run_is_skipped_the_others_are_done_and_the_end_is_5(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tinynet.build-none-s0"
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", LOCK, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=isolated(tmp_path)) as holder:
        assert holder.stdout
        holder.stdout.readline()
        result = run_cli([*FAST, "--augment", "shift-flip", "--json", "--quiet"])
        holder.kill()
    assert result.code == 5
    assert [run["status"] for run in result.json["runs"]] == ["busy", "finished"]
    assert "tinynet.build-none-s0" in result.err


def test_the_command_line_installed_is_this_one() -> None:
    command = Path(sys.executable).with_name("cifar")
    done = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == "0.2.0"


@pytest.mark.alone
def test_ctrl_c_while_starting_is_obeyed_too(tmp_path: Path) -> None:
    (tmp_path / "tinynet.py").write_text(TINY)
    process = subprocess.Popen(
        [sys.executable, "-m", "cifar", *FAST, "--network", "third"],
        cwd=tmp_path, env=isolated(tmp_path), stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    time.sleep(2.5)  # the framework is being imported
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)  # ten times what is promised
    assert process.returncode == 130, err
    assert "Traceback" not in err


@pytest.mark.parametrize(("name", "value"), [("TF_ENABLE_ONEDNN_OPTS", "0")])
def test_an_environment_that_asks_for_another_arithmetic_is_refused(cifar: Command, name: str, value: str) -> None:
    result = cifar("networks", **{name: value})
    assert result.code == 2
    assert f"{name}={value} is set" in result.err
