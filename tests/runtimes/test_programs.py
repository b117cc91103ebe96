"""Node, Chromium, TFLite Micro and the C program run our files with the classes of each format's own runtime."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, Command
from helpers.onnx_files import linear
from numpy.typing import NDArray
from PIL import Image

from cifar.data.dataset import Dataset
from cifar.errors import CifarError
from cifar.formats import FORMATS, manifest
from cifar.inference.isolated_prediction import InferenceError, WhatRan, predict_file
from cifar.inference.runtimes import RUNTIMES, load_session
from cifar.inference.runtimes.program import ProgramSession
from cifar.inference.runtimes.requirements import NodePackage
from cifar.runs.run import Run
from runtimes.conftest import require

EXPORTS = ROOT / "exports"
SECOND = {entry.format: EXPORTS / entry.file for entry in manifest.read(EXPORTS) if entry.network == "second"}
CASES = [(name, format_name) for name, row in RUNTIMES.items() for format_name in row.formats]
OF_PROGRAMS = [case for case in CASES if RUNTIMES[case[0]].import_name is None]
TOLERANCE = {"float32": 1e-5, "float16": 1e-5, "int8": 0.02}
ONE_IMAGE = np.zeros((1, 32, 32, 3), np.uint8)


def test_the_packages_of_node_are_those_that_were_tested() -> None:
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    named = {}
    for row in RUNTIMES.values():
        for requirement in row.requirements:
            if isinstance(requirement, NodePackage):
                named[requirement.name] = requirement.tested_version
    assert named == wanted


@pytest.mark.skipif("CI" not in os.environ, reason="a check of the gate")
@pytest.mark.usefixtures("programs")
def test_nothing_is_missing_where_the_gate_runs() -> None:
    assert {name: row.missing for name, row in RUNTIMES.items() if row.missing} == {}


@pytest.mark.parametrize(("name", "format_name"), OF_PROGRAMS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_program_has_the_outputs_of_the_formats_own_runtime(
    name: str, format_name: str, threads: int, programs: Path, exported: Path, pair: list[Run], small: Dataset
) -> None:
    require("chromium")
    path = exported / f"{pair[0].path.name}{FORMATS[format_name].suffix}"
    images = small.x_test[:70]
    expected = predict_file(format_name, path, images, 2, 60.0)
    reports: list[WhatRan] = []
    found = predict_file(format_name, path, images, threads, 300.0, runtime=name, report=reports.append)
    assert np.abs(found - expected).max() <= TOLERANCE[FORMATS[format_name].precision]
    (ran,) = reports
    assert (ran.provider, ran.threads) == (RUNTIMES[name].providers["cpu"], threads)
    if "chromium" in name:
        assert 0 < ran.details["clock_resolution"] < 2e-5  # type: ignore[operator] # isolated: else 1e-4
        assert ran.details["wasm_bytes"] > 1e6  # type: ignore[operator]
    assert programs_of_this_test(programs) == []


@pytest.mark.usefixtures("programs")
def test_every_image_has_its_class_in_c(test_images: NDArray[np.uint8]) -> None:
    for format_name in ("onnx", "tflite-int8"):
        expected = predict_file(format_name, SECOND[format_name], test_images, 2, 600.0, runtime="openvino")
        found = predict_file(format_name, SECOND[format_name], test_images, 1, 600.0, runtime="openvino-c")
        assert np.flatnonzero(found.argmax(axis=1) != expected.argmax(axis=1)).tolist() == []


def test_tflite_micro_has_the_bits_of_litert_without_its_delegate(test_images: NDArray[np.uint8]) -> None:
    pytest.importorskip("tflite_micro", reason="the extra micro is not installed")
    path = SECOND["tflite-int8"]
    session = load_session("tflite-int8", path, 1, runtime_name="tflite-micro")
    expected = load_session("tflite-int8", path, 1, runtime_name="ai-edge-litert-built-in")(test_images[:500])
    np.testing.assert_array_equal(session(test_images[:500]), expected)
    assert 30_000 < session.details["arena_bytes"] < 60_000
    assert "CONV_2D" in session.details["operations"]


@pytest.mark.parametrize(
    ("format_name", "reason"),
    [("tflite", "Input type UINT8 (3) not supported"), ("airbench94", "Didn't find op for builtin opcode 'GELU'")],
)
def test_tflite_micro_says_what_it_lacks(format_name: str, reason: str) -> None:
    pytest.importorskip("tflite_micro", reason="the extra micro is not installed")
    path = SECOND.get(format_name) or next(EXPORTS.glob("airbench94*.int8.tflite"))
    with pytest.raises(InferenceError) as raised:
        predict_file("tflite", path, ONE_IMAGE, 1, 60.0, runtime="tflite-micro")
    assert str(raised.value) == f"tflite-micro cannot run {path.name}: {reason}."


@pytest.mark.parametrize(("name", "format_name"), OF_PROGRAMS)
def test_a_damaged_file_is_refused_in_a_sentence(name: str, format_name: str, programs: Path) -> None:
    require("chromium")
    path = programs / f"damaged{FORMATS[format_name].suffix}"
    path.write_bytes(SECOND[format_name].read_bytes()[:1000])
    with pytest.raises(InferenceError) as raised:
        predict_file(format_name, path, ONE_IMAGE, 1, 120.0, runtime=name)
    message = str(raised.value)
    assert message.startswith(f"{name} cannot run {path.name}: ")
    assert "\n" not in message
    assert programs_of_this_test(programs) == []


@pytest.mark.parametrize("name", ["onnxruntime-web-node", "onnxruntime-web-chromium"])
def test_a_missing_wasm_file_is_a_sentence(name: str, programs: Path, installed: Path) -> None:
    require("chromium")
    (programs / "node_modules").unlink()
    shutil.copytree(installed / "node_modules", programs / "node_modules")
    (programs / "node_modules" / "onnxruntime-web" / "dist" / "ort-wasm-simd-threaded.wasm").unlink()
    with pytest.raises(InferenceError, match=rf"^{name} cannot run .*: no available backend found"):
        predict_file("onnx", SECOND["onnx"], ONE_IMAGE, 1, 120.0, runtime=name)


def test_a_browser_that_dies_is_a_sentence(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_browser(programs, "#!/bin/sh\nexit 3\n", monkeypatch)
    with pytest.raises(InferenceError, match=r"^onnxruntime-web-chromium cannot run .*: BrowserType\.launch"):
        predict_file("onnx", SECOND["onnx"], ONE_IMAGE, 1, 120.0, runtime="onnxruntime-web-chromium")


def test_a_browser_that_hangs_ends_in_time_with_all_that_it_started(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_browser(programs, "#!/bin/sh\nsleep 4711 & sleep 4711\n", monkeypatch)
    with pytest.raises(InferenceError, match=r": no predictions within 8 s\.$"):
        predict_file("onnx", SECOND["onnx"], ONE_IMAGE, 1, 8.0, runtime="onnxruntime-web-chromium")
    time.sleep(0.5)
    commands = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["sleep", "4711"] not in commands


def stand_in_browser(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program before the real Chromium on the path."""
    (folder / "bin").mkdir()
    (folder / "bin" / "chromium").write_text(script)
    (folder / "bin" / "chromium").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)


def programs_of_this_test(folder: Path) -> list[list[str]]:
    """The processes that still run in a folder, a moment later; they are told to end when their input does."""
    for _ in range(50):
        running = []
        for process in psutil.process_iter(["cwd", "cmdline"]):
            if process.info["cwd"] == str(folder) and process.pid != os.getpid():
                running.append(process.info["cmdline"])
        if not running:
            break
        time.sleep(0.1)
    return running


@pytest.mark.parametrize("name", ["onnxruntime-web-node", "onnxruntime-web-chromium"])
def test_an_external_file_is_scored_as_in_its_own_runtime(name: str, cifar: Command, programs: Path) -> None:
    require("chromium")
    path = linear(programs / "theirs.onnx", ("n", 3, 32, 32))
    arguments = ("evaluate", path, "--data", "synthetic", "--input-range", "0..1", "--json")
    own, other = cifar(*arguments), cifar(*arguments, "--runtime", name)
    assert (own.code, other.code) == (0, 0), other.err
    assert other.json["confusion"] == own.json["confusion"]


@pytest.mark.usefixtures("programs")
def test_every_runtime_is_a_row_of_the_benchmark(cifar: Command) -> None:
    require("chromium")
    installed_names = [name for name, row in RUNTIMES.items() if row.missing is None]
    paths = [SECOND[name] for name in ("saved-model", "onnx", "tflite-int8")]
    output = cifar("bench", *paths, "--runtime", ",".join(installed_names), "--batch-size", "1", "--json")
    assert output.code == 0, output.err
    rows = [row for row in output.json["rows"] if row["kind"] == "inference"]
    assert {row["runtime"] for row in rows} == set(installed_names)
    for row in rows:
        runtime = RUNTIMES[row["runtime"]]
        assert row["provider_actual"] == runtime.providers["cpu"]
        assert (row["threads_actual"], row["runtime_version"]) == (1, runtime.version)
        assert 0.01 < row["p50_ms"] < 1000
        if "chromium" in row["runtime"]:
            assert row["details"]["clock_resolution"] < 2e-5


@pytest.mark.parametrize("format_name", ["onnx", "onnx-int8"])
def test_the_example_for_node_classifies_an_image_file(
    format_name: str, exported: Path, pair: list[Run], small: Dataset, tmp_path: Path
) -> None:
    require("npm", "node")
    folder = tmp_path / "node"
    shutil.copytree(EXPORTS / "examples" / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=folder, check=True, timeout=600)
    Image.fromarray(small.x_test[3]).save(folder / "picture.png")
    path = exported / f"{pair[0].path.name}{FORMATS[format_name].suffix}"
    done = subprocess.run(["node", "classify.mjs", path, "picture.png"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    probabilities = load_session(format_name, path, 2)(small.x_test[3:4])[0]
    shown = [line.split()[1] for line in done.stdout.splitlines()]
    assert shown == [f"{value:.1%}" for value in sorted(probabilities, reverse=True)[:3]]
    without = subprocess.run(["node", "classify.mjs"], cwd=folder, capture_output=True, text=True)
    assert (without.returncode, without.stderr) == (1, "usage: node classify.mjs MODEL IMAGE\n")


@pytest.mark.parametrize("content", [b"x" * 100, b""])
def test_the_example_in_c_says_what_is_wrong(content: bytes, programs: Path) -> None:
    program = programs / "exports" / "examples" / "c" / "classify"
    done = subprocess.run([program, SECOND["onnx"]], input=content, capture_output=True)
    expected = b"classify: the last image has 100 bytes, not 3072\n" if content else b""
    assert (done.returncode, done.stderr) == (1 if content else 0, expected)
    absent = subprocess.run([program, "absent.onnx"], input=b"", capture_output=True)
    assert absent.returncode == 1
    assert absent.stderr.startswith(b"classify: absent.onnx: ")


def test_the_example_in_c_is_short() -> None:
    assert len((EXPORTS / "examples" / "c" / "classify.c").read_text().splitlines()) < 100


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(("name", "format_name"), dict(OF_PROGRAMS).items())
def test_a_program_that_is_killed_between_two_batches_is_a_sentence(name: str, format_name: str) -> None:
    require("chromium")
    session = load_session(format_name, SECOND[format_name], 1, runtime_name=name)
    assert isinstance(session, ProgramSession)
    with contextlib.closing(session):
        session(ONE_IMAGE)
        own, *others = session.processes()
        for process in others or [own]:  # of a browser all but the program that drives it
            process.kill()
        with pytest.raises(CifarError) as raised:
            session(ONE_IMAGE)
    assert re.search("closed|crashed|ended with code -9", str(raised.value)), raised.value
