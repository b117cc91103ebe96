"""A SavedModel of unknown origin is announced before it is run, whatever manifest came with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, isolated
from helpers.in_process import run_cli

from cifar.benchmark import measure, models
from cifar.errors import UsageError
from cifar.formats import manifest, origin
from cifar.runs.run import Run

ANNOUNCED = "can run any TensorFlow operation"


@pytest.fixture
def run(pair: list[Run], exported: Path, tmp_path: Path) -> Run:
    """A run folder with a SavedModel and a manifest that lists it, as somebody else may have sent it."""
    folder = Path(shutil.copytree(pair[0].path, tmp_path / "runs" / pair[0].path.name))
    shutil.copytree(exported, folder / "exports")
    return Run(folder)


@pytest.fixture
def program(run: Run) -> Path:
    return run.path / "exports" / f"{run.path.name}.saved_model"


@pytest.fixture
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another user, who has exported nothing."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_what_this_user_exported_is_own_wherever_it_lies(program: Path, tmp_path: Path) -> None:
    assert origin.is_own(program)
    alone = shutil.copytree(program, tmp_path / "copied.saved_model")
    assert origin.is_own(alone)
    (alone / "variables" / "added").write_bytes(b"x")
    assert not origin.is_own(alone)


@pytest.mark.usefixtures("_elsewhere")
def test_a_manifest_beside_a_program_shows_its_integrity_and_not_its_origin(program: Path) -> None:
    assert manifest.verify_checksum(program)
    assert not origin.is_own(program)
    origin.remember(manifest.verify_checksum(program).sha256)  # type: ignore[union-attr]
    assert origin.is_own(program)


@pytest.mark.usefixtures("_elsewhere")
def test_released_models_are_own() -> None:
    for entry in manifest.read(ROOT / "exports"):
        if entry.format == origin.PROGRAM:
            assert origin.is_own(ROOT / "exports" / entry.file)


def test_a_home_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    origin.remember("0" * 64)


@pytest.mark.usefixtures("_elsewhere")
def test_evaluate_announces_a_program_that_its_own_manifest_lists(program: Path) -> None:
    output = run_cli(["evaluate", str(program), "--json"])
    assert output.code == 0, output.err
    assert json.loads(output.out)["checksum_verified"] is True
    assert f"{program.name} is a TensorFlow program" in output.err
    assert ANNOUNCED in output.err
    sound = run_cli(["evaluate", str(program.with_name(program.name.replace("saved_model", "onnx")))])
    assert ANNOUNCED not in sound.err


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("named", ["run", "file"])
def test_the_benchmark_announces_programs_before_it_runs_them(
    named: str, run: Run, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_arguments: object) -> None:
        raise UsageError("Nothing is measured here.")

    monkeypatch.setattr(measure, "count_cases", stop)
    path = run.path if named == "run" else program
    output = run_cli(["bench", str(path)])
    assert "Nothing is measured here." in output.err
    assert output.err.count(ANNOUNCED) == 1
    origin.remember(manifest.verify_checksum(program).sha256)  # type: ignore[union-attr]
    assert ANNOUNCED not in run_cli(["bench", str(path)]).err


def test_pytest_bench_announces_programs_of_runs(run: Run, program: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "bench", "-q", "--collect-only", "--run", str(run.path)]
    done = subprocess.run(
        command, cwd=ROOT, env=isolated(tmp_path), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{program.name} is a TensorFlow program" in done.stderr


def test_an_unknown_program_is_announced_whatever_its_name_is(
    run: Run, program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert models.unknown_programs([program], [run.path.parent]) == []
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    renamed = program.rename(program.with_name("model"))
    with manifest.locked_entries(renamed.parent) as entries:
        entries["model"] = entries[program.name].model_copy(update={"file": "model"})
    assert models.unknown_programs([], [run.path]) == [renamed]
