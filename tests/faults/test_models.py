"""Damaged and hostile model files: refused by their digest, or run apart, with predictions or one clear sentence."""

import contextlib
import json
import random
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, TINY, train_here

from cifar import export
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.formats import FORMATS, manifest, onnx
from cifar.inference.isolated_prediction import InferenceError, predict_file, predict_in_subprocess
from cifar.metrics.classification import CLASSES
from cifar.recipes import recipe
from cifar.runs.loading import load_keras
from cifar.runs.run import Run
from faults.conftest import Count, Tally

LIMIT = 60.0  # seconds for a file: many times what a sound one takes on a busy machine
IMAGES = np.zeros((3, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder while these tests run; it holds the tiny network's module."""
    path = tmp_path_factory.mktemp("models")
    (path / "tinynet.py").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.syspath_prepend(path)
        yield path


@pytest.fixture(scope="module")
def run(home: Path, small: Dataset) -> Run:
    (made,) = train_here([recipe("tinynet:build", "none", epochs=1, dataset="synthetic")], small, home / "runs")
    export.export_runs([made], small, FORMATS, max_drop=100)
    return made


def file_of(run: Run, name: str) -> Path:
    return run.path / "exports" / f"{run.path.name}{FORMATS[name].suffix}"


# Damage.


def truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 3, 30])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flipped_early(content: bytes, chance: random.Random) -> bytes:
    """Where the structure is, in most formats."""
    return flipped(content[:400], chance) + content[400:]


def flipped_late(content: bytes, chance: random.Random) -> bytes:
    return content[:-4000] + flipped(content[-4000:], chance)


def filled(content: bytes, chance: random.Random) -> bytes:
    start, length = chance.randrange(len(content)), chance.choice([1, 16, 512, 4096])
    filling = chance.choice([b"\0", b"\xff"]) * length
    return content[:start] + filling[: len(content) - start] + content[start + length :]


def replaced(content: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice([0, 1, 100, len(content)]))


DAMAGES = (truncated, flipped, flipped, flipped_early, flipped_early, flipped_late, filled, filled, replaced)


def damage_file(path: Path, chance: random.Random) -> str:
    """Change a file so that it is another; how, in words."""
    before = path.read_bytes()
    damage = chance.choice(DAMAGES)
    while (after := damage(before, chance)) == before:
        damage = chance.choice(DAMAGES)
    path.write_bytes(after)
    return f"{damage.__name__} {path.name}"


def damage_model(path: Path, others: list[Path], chance: random.Random) -> str:
    """Change a model file or folder, or put one of another format in its place."""
    if chance.random() < 0.1:
        other = chance.choice(others)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(other, path) if other.is_dir() else shutil.copy(other, path)
        return f"{other.name} in its place"
    if not path.is_dir():
        return damage_file(path, chance)
    inside = chance.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    if chance.random() < 0.1:
        inside.unlink()
        return f"without {inside.name}"
    return damage_file(inside, chance)


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def sentence(error: Exception) -> str:
    text = str(error)
    assert text.isprintable(), text
    assert text.endswith(".")
    assert len(text) < 600
    return text


# Exports.


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_export_is_refused_by_its_digest_or_run_apart(
    name: str, run: Run, home: Path, tmp_path: Path, count: Count, tally: Tally
) -> None:
    original, others = file_of(run, name), [file_of(run, other) for other in FORMATS if other != name]
    paths, damages = [], []
    for number in range(count(50, 500)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        path = folder / original.name
        shutil.copytree(original, path) if original.is_dir() else shutil.copy(original, path)
        shutil.copy(original.parent / manifest.NAME, folder)
        line = manifest.verify_checksum(path)
        assert line
        assert line.format == name
        damages.append(damage_model(path, others, random.Random(number)))
        with pytest.raises(UsageError, match="its SHA-256 differs"):
            manifest.verify_checksum(path)
        (folder / manifest.NAME).unlink()
        assert manifest.verify_checksum(path) is None
        paths.append(path)
    before = tree(tmp_path) | tree(home)
    started = time.monotonic()
    found = list(predict_in_subprocess(name, paths, IMAGES, 1, LIMIT))
    assert time.monotonic() - started < LIMIT * len(paths)
    assert tree(tmp_path) | tree(home) == before
    for path, damage, each in zip(paths, damages, found, strict=True):
        tally("damaged models refused by their digest")
        if isinstance(each, InferenceError):
            assert path.name in sentence(each), damage
            ended = any(words in str(each) for words in ("signal", "within"))
            tally(
                "of these a crash or a hang of the runtime, run apart" if ended else "of these refused by the runtime"
            )
        else:
            assert (each.shape, each.dtype) == ((len(IMAGES), CLASSES), np.float32), damage
            tally("of these predicted, run apart")


def test_a_file_that_is_not_listed_or_not_there(run: Run, tmp_path: Path) -> None:
    shutil.copy(run.path / "exports" / manifest.NAME, tmp_path)
    (tmp_path / "other.onnx").write_bytes(b"x")
    assert manifest.verify_checksum(tmp_path / "other.onnx") is None
    with pytest.raises(UsageError, match="SHA-256 differs"):
        manifest.verify_checksum(tmp_path / file_of(run, "onnx").name)
    (tmp_path / manifest.NAME).write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        manifest.verify_checksum(tmp_path / "other.onnx")


# What a child may do.


def endless(path: Path) -> Path:
    """An ONNX file that computes for ever."""
    from onnx import TensorProto, checker, helper

    def value(name: str, kind: int, shape: list[int | str]) -> object:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, [1])],
        [value("on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, [1])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["most", "true", "start"], ["probabilities"], body=body)],
        "endless",
        [value("image", TensorProto.UINT8, ["N", 32, 32, 3])],
        [value("probabilities", TensorProto.FLOAT, [1])],
        [
            helper.make_tensor("most", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
            helper.make_tensor("start", TensorProto.FLOAT, [1], [0.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_that_computes_for_ever_is_given_up_and_the_next_one_runs(run: Run, tmp_path: Path) -> None:
    sound, started = file_of(run, "onnx"), time.monotonic()
    expected = predict_file("onnx", sound, IMAGES, 1, LIMIT)
    limit = 2 + round(4 * (time.monotonic() - started))  # on a busy machine a sound file takes a while too
    first, second, third = predict_in_subprocess(
        "onnx", [sound, endless(tmp_path / "endless.onnx"), sound], IMAGES, 1, limit
    )
    assert isinstance(second, InferenceError)
    assert sentence(second) == f"onnxruntime cannot run endless.onnx: no predictions within {limit} s."
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(third, expected)
    assert not inference_processes()


def inference_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "child_process" in " ".join(child.cmdline())]


def test_a_crash_is_told_and_the_next_file_runs(run: Run, tmp_path: Path) -> None:
    paths = [endless(tmp_path / "endless.onnx"), file_of(run, "onnx")]
    found: list[object] = []
    running = threading.Thread(target=lambda: found.extend(predict_in_subprocess("onnx", paths, IMAGES, 1, LIMIT)))
    running.start()
    while not inference_processes():
        time.sleep(0.02)
    time.sleep(1)
    inference_processes()[0].send_signal(11)
    running.join(2 * LIMIT)
    crash, after = found
    assert isinstance(crash, InferenceError)
    assert sentence(crash) == "onnxruntime cannot run endless.onnx: the process was ended by signal 11."
    assert isinstance(after, np.ndarray)


@pytest.mark.parametrize("shape", [(3, 9), (2, 10), (3, 10, 1)])
def test_an_output_of_another_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["fixed"], ["probabilities"])],
        "fixed",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 32, 32, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape)],
        [helper.make_tensor("fixed", TensorProto.FLOAT, shape, np.zeros(shape).ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (tmp_path / "fixed.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InferenceError, match="cannot run fixed"):
        predict_file("onnx", tmp_path / "fixed.onnx", IMAGES, 1, LIMIT)


def test_what_a_runtime_says_is_one_line_without_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "x\x1b[31m\ny.tflite"
    path.write_bytes(b"no model")
    with pytest.raises(InferenceError) as caught:
        predict_file("tflite", path, IMAGES, 1, LIMIT)
    assert len(str(caught.value)) < 600
    with pytest.raises(InferenceError, match="not an ONNX file"):
        predict_file("onnx", tmp_path / "absent.onnx", IMAGES, 1, LIMIT)


# ONNX files with data elsewhere.


def with_data_at(run: Run, path: Path, location: str) -> Path:
    """The exported ONNX file with its weights in another file."""
    import onnx as library
    from onnx.external_data_helper import convert_model_to_external_data, write_external_data_tensors

    model = library.load(str(file_of(run, "onnx")))
    convert_model_to_external_data(model, location="weights.bin")
    write_external_data_tensors(model, str(path.parent))
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    return path


def test_data_in_the_own_folder_is_read(run: Run, tmp_path: Path) -> None:
    path = with_data_at(run, tmp_path / "model.onnx", "weights.bin")
    onnx.check_external_data(path)
    found = predict_file("onnx", path, IMAGES, 1, LIMIT)
    np.testing.assert_array_equal(found, predict_file("onnx", file_of(run, "onnx"), IMAGES, 1, LIMIT))


@pytest.mark.parametrize("way", ["absolute", "above", "link", "folder that is a link", "far above"])
@pytest.mark.parametrize("name", ["onnx", "onnx-int8"])
def test_data_outside_of_the_folder_is_refused_unread(way: str, name: str, run: Run, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = with_data_at(run, inside / "model.onnx", "weights.bin")
    secret = (inside / "weights.bin").rename(tmp_path / "secret.bin")
    (inside / "link").symlink_to(secret)
    (inside / "folder").symlink_to(tmp_path)
    location = {
        "absolute": str(secret),
        "above": "../secret.bin",
        "link": "link",
        "folder that is a link": "folder/secret.bin",
        "far above": "../" * 40 + str(secret)[1:],
    }[way]
    import onnx as library

    model = library.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="weights outside of its folder"):
        onnx.check_external_data(path)
    (error,) = predict_in_subprocess(name, [path], IMAGES, 1, LIMIT)
    assert "weights outside of its folder" in sentence(error)  # type: ignore[arg-type]


# model.keras.


LOAD = """
import shutil, sys
from pathlib import Path
from cifar import networks
from cifar.errors import UsageError
from cifar.runs import loading
from cifar.runs.run import Run
from cifar.system import environment

environment.configure(1)
networks.build_with_fresh_names = networks.build  # clearing Keras's session for each takes longer than all the rest
run = Run(Path(sys.argv[1]))
for path in sys.argv[2:]:
    shutil.copy(path, run.path / "model.keras")
    try:
        loading.load_keras(run)
    except UsageError as error:
        print("refused", repr(str(error)), flush=True)
    else:
        print("loaded", flush=True)
"""


def copy_of(run: Run, to: Path) -> Path:
    """A run folder to put other model.keras files into."""
    shutil.copytree(run.path, to, ignore=shutil.ignore_patterns("exports"))
    return to


def test_a_damaged_keras_file_is_refused_or_has_the_weights_that_were_scored(
    run: Run, home: Path, tmp_path: Path, count: Count, tally: Tally
) -> None:
    others = [file_of(run, name) for name in FORMATS if name != "saved-model"]
    paths = []
    for number in range(count(50, 500)):
        paths.append(tmp_path / f"{number}.keras")
        shutil.copy(run.path / "model.keras", paths[-1])
        damage_model(paths[-1], others, random.Random(number))
    place = copy_of(run, tmp_path / "place")
    before = tree(tmp_path) | tree(home)
    command = [sys.executable, "-c", LOAD, str(place), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT + 2 * len(paths))
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths)
    for line in lines:
        tally(f"damaged model.keras {line.split()[0]}")
        assert len(line) < 1000
    assert tree(tmp_path) | tree(home) == before


@pytest.fixture
def place(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copy_of(run, tmp_path / "runs" / "place")


def repacked(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the members of a zip."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_code_in_a_keras_file_is_not_run(place: Path, tmp_path: Path) -> None:
    import keras

    mark = tmp_path / "mark"
    marking = keras.layers.Lambda(lambda x: (open("mark", "w").close(), x)[1])  # noqa: PTH123
    hostile = keras.Sequential([keras.Input((32, 32, 3)), marking])
    mark.unlink(missing_ok=True)
    hostile.save(tmp_path / "hostile.keras")
    mark.unlink(missing_ok=True)
    with zipfile.ZipFile(tmp_path / "hostile.keras") as archive:
        config = archive.read("config.json")
    assert b"Lambda" in config
    path = place / "model.keras"
    repacked(path, lambda members: members.update({"config.json": config}))
    keras.models.load_model(tmp_path / "hostile.keras", safe_mode=False)
    assert mark.exists(), "the payload is a dud"
    mark.unlink()
    load_keras(Run(place))  # only the weights of the file are read
    assert not mark.exists()


@pytest.mark.parametrize(
    "config", [b"", b"{", b"[" * 100_000, json.dumps({"module": "os", "class_name": "system"}).encode()]
)
def test_the_configuration_in_a_keras_file_does_not_matter(config: bytes, place: Path) -> None:
    repacked(place / "model.keras", lambda members: members.update({"config.json": config, "metadata.json": config}))
    load_keras(Run(place))


def test_keras_is_nowhere_told_to_run_code_in_files() -> None:
    for path in [*(ROOT / "cifar").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        source = path.read_text()
        assert "safe_mode" not in source, path
        assert "unsafe_deserialization" not in source, path
        assert "load_model(" not in source or "saved_model.load_model(" in source, path


def test_a_keras_file_writes_nothing_outside(place: Path, tmp_path: Path) -> None:
    names = ["../evil", "../../evil", str(tmp_path / "evil"), "assets/../../evil", "assets/evil", "a/../../../evil"]
    repacked(place / "model.keras", lambda members: members.update(dict.fromkeys(names, b"evil")))
    before = tree(tmp_path.parent)
    with contextlib.suppress(UsageError):
        load_keras(Run(place))
    assert tree(tmp_path.parent) == before
