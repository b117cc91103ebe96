"""OpenVINO runs our files and external ones with the classes of each format's own runtime."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Command
from helpers.onnx_files import linear
from PIL import Image

from cifar.data.dataset import Dataset
from cifar.formats import FORMATS, manifest
from cifar.inference import runtime_parity
from cifar.inference.isolated_prediction import InferenceError, predict_file
from cifar.inference.runtimes import RUNTIMES, load_session
from cifar.runs.run import Run
from cifar.system import hardware

pytest.importorskip("openvino", reason="the extra openvino is not installed")
EXAMPLE = ROOT / "exports" / "examples" / "classify_openvino.py"
HAS_BFLOAT16 = "avx512_bf16" in hardware.cpu()["instruction_sets"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_format_has_the_outputs_of_its_own_runtime(
    name: str, threads: int, exported: Path, pair: list[Run], small: Dataset
) -> None:
    path = exported / f"{pair[0].path.name}{FORMATS[name].suffix}"
    expected = load_session(name, path, 2)(small.x_test)
    session = load_session(name, path, threads, runtime_name="openvino")
    assert (session.threads, session.provider) == (threads, "OpenVINO, float32")
    assert session.input.dtype == np.uint8
    tolerance = {"float32": 1e-5, "float16": 2e-3, "int8": 0.1}[FORMATS[name].precision]
    assert np.abs(session(small.x_test) - expected).max() <= tolerance
    assert np.abs(session(small.x_test[:1]) - expected[:1]).max() <= tolerance  # another batch size


@pytest.mark.skipif(not HAS_BFLOAT16, reason="the processor has no units for bfloat16")
def test_bfloat16_is_a_runtime_of_its_own_and_read_back(exported: Path, pair: list[Run], small: Dataset) -> None:
    path = exported / f"{pair[0].path.name}.onnx"
    session = load_session("onnx", path, 1, runtime_name="openvino-bfloat16")
    assert session.provider == "OpenVINO, bfloat16"
    difference = np.abs(session(small.x_test) - load_session("onnx", path, 1)(small.x_test)).max()
    assert 1e-5 < difference < 0.1


def test_an_external_file_is_scored_as_in_its_own_runtime(cifar: Command, tmp_path: Path) -> None:
    path = linear(tmp_path / "theirs.onnx", ("n", 3, 32, 32))
    arguments = ("evaluate", path, "--data", "synthetic", "--input-range", "0..1", "--json")
    own, other = cifar(*arguments), cifar(*arguments, "--runtime", "openvino")
    assert (own.code, other.code) == (0, 0), other.err
    assert (own.json["runtime"], other.json["runtime"]) == ("onnxruntime", "openvino")
    assert other.json["confusion"] == own.json["confusion"]


def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "damaged.tflite").write_bytes(b"TFL3" * 100)
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(InferenceError, match=r"^openvino cannot run damaged\.tflite: "):
        predict_file("tflite", tmp_path / "damaged.tflite", images, 1, 60.0, runtime="openvino")


def test_nothing_is_written_into_the_home(cifar: Command, tmp_path: Path) -> None:
    path = linear(tmp_path / "theirs.onnx", ("n", 3, 32, 32))
    output = cifar("parity", path, "--data", "synthetic", "--input-range", "0..1")
    assert output.code == 0, output.err
    assert [path.name for path in tmp_path.iterdir() if path.name in ("intel", ".intel")] == []


def test_a_released_file_has_its_classes_in_every_runtime(cifar: Command, tmp_path: Path) -> None:
    """Drawn images, which are harder than those of the data set: many lie between two classes."""
    entries = [entry for entry in manifest.read(ROOT / "exports") if entry.network == "second"]
    for entry in entries:
        if entry.format in ("onnx", "tflite", "onnx-int8"):
            shutil.copy(ROOT / "exports" / entry.file, tmp_path)
    shutil.copy(ROOT / "exports" / manifest.NAME, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".onnx", ".tflite"))
    output = cifar("parity", *names, "--json")
    assert output.code == 0, output.err
    results = {result["format"]: result for result in output.json["files"]}
    for name in ("onnx", "tflite"):
        of_float32 = {}
        for pair in results[name]["pairs"]:
            if pair["is_float32"]:
                of_float32[pair["first"], pair["second"]] = pair["flips"]
        assert of_float32[FORMATS[name].runtime, "openvino"] == []
    assert results["onnx"]["versions"]["openvino"] == RUNTIMES["openvino"].version
    assert not runtime_parity.path_of(tmp_path / names[0]).exists()  # kept of the data set's images alone
    if HAS_BFLOAT16:
        limited = cifar("parity", results["onnx"]["file"], "--max-flips", "0")
        assert limited.code == 1
        assert "disagree on" in limited.err


@pytest.mark.parametrize("name", FORMATS)
def test_the_example_classifies_an_image_file_as_the_runtime_does(
    name: str, exported: Path, pair: list[Run], small: Dataset, tmp_path: Path
) -> None:
    Image.fromarray(small.x_test[3]).save(tmp_path / "picture.png")
    path = exported / f"{pair[0].path.name}{FORMATS[name].suffix}"
    done = subprocess.run(
        [sys.executable, "-I", EXAMPLE, path, "picture.png"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    probabilities = load_session(name, path, 2, runtime_name="openvino")(small.x_test[3:4])[0]
    shown = [line.split()[1] for line in done.stdout.splitlines()]
    assert shown == [f"{value:.1%}" for value in sorted(probabilities, reverse=True)[:3]]
