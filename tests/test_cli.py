import json
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY, Command, isolated

from cifar.runs.run import Run
from cifar.system import files

FAST = ("train", "--network", "tinynet:build", "--augment", "none", "--data", "synthetic", "--epochs", "1")


@pytest.fixture
def with_tiny(tmp_path: Path) -> None:
    (tmp_path / "tinynet.py").write_text(TINY)


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


def test_train_ends_with_runs_exports_figures_and_a_report(trained: Path) -> None:
    for name in ("tinynet.build-none-s0", "tinynet.build-shift-flip-s0"):
        run = Run(trained / "runs" / name)
        assert run.finished
        assert {path.name for path in (run.path / "figures").glob("[!.]*")} == {
            "confusion.png", "curves.png", "misclassified.png",
        }  # fmt: skip
        assert {path.name for path in (run.path / "exports").iterdir()} >= {
            f"{name}.onnx", f"{name}.tflite", f"{name}.saved_model", "manifest.json",
        }  # fmt: skip
    out = (trained / "out.txt").read_text()
    for words in ("Accuracy", "What augmentation buys", "too short to judge", "Misclassified", "SYNTHETIC DATA"):
        assert words in out


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


def test_a_finished_run_is_kept_and_json_stands_alone_on_stdout(trained: Path) -> None:
    facts = [path for path in trained.glob("runs/*/*.*") if path.is_file()]
    before = {path.name: files.sha256(path) for path in facts}
    done = run_in(trained, *FAST, "--json")
    (entry,) = json.loads(done.stdout)["runs"]
    assert entry["path"] == "runs/tinynet.build-none-s0"
    assert (entry["network"], entry["augment"], entry["seed"]) == ("tinynet:build", "none", 0)
    assert len(entry["weights_sha256"]) == 64
    assert 0 < entry["accuracy"] < 1
    assert "is finished already" in done.stderr
    assert {path.name: files.sha256(path) for path in facts} == before


def test_evaluate_gives_what_the_run_recorded(trained: Path) -> None:
    answer = json.loads(run_in(trained, "evaluate", "runs/tinynet.build-none-s0", "--json").stdout)
    metrics = Run(trained / "runs/tinynet.build-none-s0").metrics
    assert answer["accuracy"] == metrics.accuracy == answer["recorded_accuracy"]
    assert (answer["correct"], answer["n_test"]) == (metrics.correct, 1000)


def test_export_to_another_folder(trained: Path, tmp_path: Path) -> None:
    arguments = (
        "export",
        "runs/tinynet.build-none-s0",
        "--format",
        "onnx",
        "--to",
        str(tmp_path),
        "--json",
        "--card",
    )
    answer = json.loads(run_in(trained, *arguments).stdout)
    assert [line["file"] for line in answer["exports"]] == ["tinynet.build-none-s0.onnx"]
    assert answer["exports"][0]["sha256"] in (tmp_path / "tinynet.build-none-s0.md").read_text()
    assert (tmp_path / "tinynet.build-none-s0.onnx").is_file()


def test_runs_lists_every_run_with_its_state(trained: Path) -> None:
    rows = json.loads(run_in(trained, "runs", "--json").stdout)["runs"]
    assert [(row["augment"], row["status"], row["epochs_done"]) for row in rows] == [
        ("none", "finished", 1),
        ("shift-flip", "finished", 1),
    ]
    assert "tinynet.build-none-s0" in run_in(trained, "runs").stdout


def test_report_as_json_has_gains_claims_and_pictures(trained: Path) -> None:
    answer = json.loads(run_in(trained, "report", "--json", "--pick", "close").stdout)
    assert len(answer["runs"]) == 2
    assert [gain["augment"] for gain in answer["gains"]] == ["shift-flip"]
    assert {claim["verdict"] for claim in answer["claims"]} == {"too short to judge"}
    assert all(len(run["misclassified"]) == 10 for run in answer["runs"])
    assert all((trained / path).is_file() for path in answer["figures"])


def test_a_report_as_markdown_has_the_tables_of_the_terminal(trained: Path) -> None:
    shown = run_in(trained, "report", "--markdown", "tables.md").stdout
    text = (trained / "tables.md").read_text()
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert len(titles) >= 4
    assert all(title in " ".join(shown.split()) for title in titles)
    refused = run_in(trained, "report", "--trend", "--markdown", "other.md")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert not (trained / "other.md").exists()


@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_report_shows_pictures_where_there_is_colour(trained: Path, columns: str) -> None:
    terminal = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color", "COLUMNS": columns}
    coloured = run_in(trained, "report", **terminal).stdout
    assert coloured.count("▀") == 2 * 10 * 15 * 8
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert max(map(len, plain.splitlines())) <= int(columns)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "xterm", "COLORTERM": ""}, {"TERM": "dumb"}])
def test_a_report_without_colours_has_a_table_instead_of_pictures(trained: Path, variables: dict[str, str]) -> None:
    shown = run_in(
        trained, "report", **{"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80", **variables}
    ).stdout
    assert "▀" not in shown
    assert "confidence" in shown


@pytest.mark.parametrize("name", [None, "first", "tinynet:build"])
def test_networks(trained: Path, name: str | None) -> None:
    arguments = ["networks", *([name] if name else [])]
    facts = json.loads(run_in(trained, *arguments, "--json").stdout)["networks"]
    assert [entry["network"] for entry in facts] == ([name] if name else ["first", "second", "third"])
    shown = run_in(trained, *arguments).stdout
    assert max(map(len, shown.splitlines())) <= 80
    for entry in facts:
        assert f"{entry['parameters']:,}" in shown
    if name == "first":
        assert "(None, 30, 30, 32)" in shown
        assert "276,138" in shown


REFUSALS = [
    (("train", "--network", "frist"), 2, ["'frist'", "Did you mean 'first'", "first, second, third"]),
    (("train", "--augment", "shift-flop"), 2, ["Did you mean 'shift-flip'", "none"]),
    (("train", "--profile", "quik"), 2, ["Did you mean 'quick'", "reference"]),
    (("train", "--data", "cifar"), 2, ["Did you mean 'cifar10'", "synthetic"]),
    (("train", "--epochs", "0"), 2, ["--epochs"]),
    (("train", "--epochs", "many"), 2, ["--epochs", "integer"]),
    (("train", "--seed", "-1"), 2, ["--seed"]),
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
    (("export", "absent"), 2, ["absent"]),
    (("export", "absent", "--format", "onxn"), 2, ["Did you mean 'onnx'", "tflite"]),
    (("report", "absent"), 2, ["absent"]),
    (("report", "."), 2, ["no run in it"]),
    (("report", "--pick", "confidant"), 2, ["Did you mean 'confident'"]),
    (("runs", "absent"), 2, ["absent"]),
    (("runs", "x" * 300), 2, ["File name too long"]),
    (("networks", "fourth"), 2, ["first, second, third"]),
]


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSALS, ids=[" ".join(row[0]) for row in REFUSALS])
def test_bad_input_is_one_clear_sentence_and_its_exit_code(
    cifar: Command, tmp_path: Path, arguments: tuple[str, ...], code: int, words: list[str]
) -> None:
    answer = cifar(*arguments)
    assert answer.code == code, answer.err
    assert answer.out == ""
    for word in words:
        assert word in " ".join(answer.err.split()), answer.err
    assert not list(tmp_path.glob("runs/**/*"))


@pytest.mark.usefixtures("with_tiny")
def test_auto_without_cifar10_says_so_where_nobody_can_miss_it(cifar: Command) -> None:
    arguments = [word for word in FAST if word not in ("--data", "synthetic")]
    answer = cifar(*arguments, "--quiet", "--json")
    assert answer.code == 0
    assert "SYNTHETIC DATA" in answer.err
    assert answer.json["runs"][0]["dataset"] == "synthetic"


@pytest.mark.usefixtures("with_tiny")
def test_a_diverged_run_is_marked_the_others_go_on_and_the_end_is_1(cifar: Command) -> None:
    answer = cifar(*FAST, "--network", "tinynet:exploding", "--json", "--quiet")
    assert answer.code == 1
    assert [run["status"] for run in answer.json["runs"]] == ["finished", "diverged"]
    assert "diverged" in answer.err
    again = cifar(*FAST, "--network", "tinynet:exploding", "--json", "--quiet")
    assert again.code == 1


@pytest.mark.usefixtures("with_tiny")
def test_an_unwritable_folder_is_4_and_names_the_path(cifar: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = cifar(*FAST, "--quiet", "--runs", "file/runs")
    assert answer.code == 4
    assert "file" in answer.err
    assert "cannot be written" in answer.err


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


HOLD = """
import sys, time
from pathlib import Path
from cifar.system.files import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(99)
"""


@pytest.mark.usefixtures("with_tiny")
def test_a_held_run_is_passed_over_the_rest_done_and_the_end_is_5(tmp_path: Path, cifar: Command) -> None:
    folder = tmp_path / "runs" / "tinynet.build-none-s0"
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=isolated(tmp_path)) as holder:
        assert holder.stdout
        holder.stdout.readline()
        answer = cifar(*FAST, "--augment", "shift-flip", "--json", "--quiet")
        holder.kill()
    assert answer.code == 5
    assert [run["status"] for run in answer.json["runs"]] == ["busy", "finished"]
    assert "tinynet.build-none-s0" in answer.err


def test_the_command_line_installed_is_this_one() -> None:
    command = Path(sys.executable).with_name("cifar")
    done = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == "0.1.0"


@pytest.mark.alone
def test_ctrl_c_while_starting_is_obeyed_too(tmp_path: Path) -> None:
    (tmp_path / "tinynet.py").write_text(TINY)
    process = subprocess.Popen(
        [sys.executable, "-m", "cifar", *FAST, "--network", "third"],
        cwd=tmp_path, env=isolated(tmp_path), stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    time.sleep(2.5)  # the framework is being imported
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - asked < 2.5
    assert process.returncode == 130, err
    assert "Traceback" not in err


@pytest.mark.parametrize(("name", "value"), [("TF_ENABLE_ONEDNN_OPTS", "0")])
def test_an_environment_that_asks_for_another_arithmetic_is_refused(cifar: Command, name: str, value: str) -> None:
    answer = cifar("networks", **{name: value})
    assert answer.code == 2
    assert f"{name}={value} is set" in answer.err
