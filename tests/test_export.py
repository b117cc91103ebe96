import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import train_here

from cifar import export
from cifar.analysis.finished_run import FinishedRun
from cifar.data.dataset import Dataset
from cifar.errors import StorageError, UsageError
from cifar.export import ParityError, parity
from cifar.formats import FLOAT32_FORMATS, FORMATS, graph, manifest
from cifar.inference.runtimes import load_session
from cifar.recipes import recipe
from cifar.report import card
from cifar.runs.run import Run
from cifar.system import files, hardware

KEYS = {
    "format_version", "class_names", "input", "output", "network", "augment", "seed", "recipe", "weights_sha256",
    "accuracy", "dataset", "official", "data_sha256", "versions",
}  # fmt: skip


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []


def test_every_format_is_in_place_with_its_line(exported: Path, pair: list[Run]) -> None:
    lines = manifest.read(exported)
    assert {line.format for line in lines} == set(FORMATS)
    classes = [f"{line.file}.top1.npz" for line in lines]
    assert files_in(exported) == sorted([*(line.file for line in lines), *classes, "manifest.json"])
    for line in lines:
        assert line.sha256 == files.sha256(exported / line.file)
        width = {"float32": 4, "float16": 2, "int8": 1}[line.precision]
        assert line.bytes == files.size(exported / line.file) > 208_794 * width  # no weight is missing
        assert line.multiply_adds == 6_499_840
        assert line.weights_sha256 == pair[0].metrics.weights_sha256
        assert line.n_test == 100
        assert line.instruction_sets == hardware.cpu()["instruction_sets"]
        if line.precision == "float32":
            assert (line.agreement, line.accuracy) == (1.0, pair[0].metrics.accuracy)
            assert 0 <= line.max_difference <= 1e-5


def test_a_manifest_from_before_the_instruction_sets_is_read(exported: Path, tmp_path: Path) -> None:
    content = json.loads((exported / "manifest.json").read_text())
    for entry in content["models"]:
        del entry["instruction_sets"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert {line.instruction_sets for line in manifest.read(tmp_path)} == {None}


@pytest.mark.parametrize("vnni", [True, False])
def test_onnx_runtime_is_told_to_multiply_8_bit_integers_without_saturation_where_there_is_no_vnni(
    vnni: bool, exported: Path, pair: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its default sums pairs of products there in 16 bits, which overflow (docs/formats.md)."""
    monkeypatch.setattr(hardware, "has_vnni", lambda: vnni)
    session = load_session("onnx-int8", exported / f"{pair[0].path.name}.int8.onnx", threads=1)
    options = session._session.get_session_options()  # type: ignore[attr-defined]
    if vnni:
        with pytest.raises(RuntimeError, match="does not have configuration with key"):
            options.get_session_config_entry("session.x64quantprecision")
    else:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_every_format_takes_any_batch_of_bytes_and_gives_float32(
    exported: Path, pair: list[Run], small: Dataset, name: str, batch: int
) -> None:
    predictor = load_session(name, exported / f"{pair[0].path.name}{FORMATS[name].suffix}", threads=2)
    predictions = predictor(small.x_test[:batch])
    assert (predictions.dtype, predictions.shape) == (np.float32, (batch, 10))
    tolerance = {"float32": 1e-5, "float16": 2e-3, "int8": 0.1}[FORMATS[name].precision]
    np.testing.assert_allclose(predictions, pair[0].predictions()[0][:batch], atol=tolerance)


def test_every_format_says_the_same_of_itself_but_for_its_precision(
    exported: Path, pair: list[Run], small: Dataset
) -> None:
    stem = pair[0].path.name
    said = [form.module.read_metadata(exported / f"{stem}{form.suffix}") for form in FORMATS.values()]
    assert [facts.pop("precision") for facts in said] == [form.precision for form in FORMATS.values()]
    assert set(said[0]) == KEYS
    assert all(facts == said[0] for facts in said)
    assert tuple(json.loads(said[0]["class_names"])) == small.class_names
    assert json.loads(said[0]["recipe"])["network"] == "second"


BARE_ONNX = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
entry, = session.get_inputs()
assert (entry.name, entry.type, entry.shape) == ("image", "tensor(uint8)", ["N", 32, 32, 3]), entry
exit_, = session.get_outputs()
assert (exit_.name, exit_.type, exit_.shape) == ("probabilities", "tensor(float)", ["N", 10]), exit_
numpy.save(sys.argv[3], session.run(None, {"image": numpy.load(sys.argv[2])})[0])
assert not {"cifar", "tensorflow", "keras"} & set(sys.modules)
"""


def test_a_program_without_this_package_gets_the_same_answers_from_onnx(
    exported: Path, pair: list[Run], small: Dataset, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", small.x_test)
    model = exported / f"{pair[0].path.name}.onnx"
    arguments = [str(model), str(tmp_path / "images.npy"), str(tmp_path / "predictions.npy")]
    subprocess.run([sys.executable, "-I", "-c", BARE_ONNX, *arguments], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "predictions.npy"), pair[0].predictions()[0], atol=1e-4)


def test_the_onnx_graph_has_a_fixed_reshape_and_no_shape_arithmetic(exported: Path, pair: list[Run]) -> None:
    import onnx

    kinds = [node.op_type for node in onnx.load(exported / f"{pair[0].path.name}.onnx").graph.node]
    assert not {"Shape", "Gather", "Slice", "Concat"} & set(kinds), kinds
    assert kinds.count("Transpose") == 2


def test_the_tflite_file_reads_no_variables(exported: Path, pair: list[Run]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf((exported / f"{pair[0].path.name}.tflite").read_bytes(), 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    used = {names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes}
    assert "CONV_2D" in used
    assert not {"READ_VARIABLE", "VAR_HANDLE"} & used


@contextmanager
def one_weight_moved(by: float) -> Iterator[None]:
    """Every export writes a model one of whose weights is off."""
    honest = graph.serving

    def serving(model: Any, *dtype: str) -> Any:
        bias = model.layers[-1].bias  # a kernel's weight may belong to a feature that is never on
        bias.assign(bias.numpy() + by * (np.arange(10) == 3))
        return honest(model, *dtype)

    with pytest.MonkeyPatch.context() as patch:
        for format_name in ("saved_model", "onnx"):
            patch.setattr(f"cifar.formats.{format_name}.serving", serving)
        yield


@pytest.mark.parametrize("name", FLOAT32_FORMATS)
def test_a_weight_that_is_off_by_a_hundredth_is_refused_and_nothing_moved(
    pair: list[Run], small: Dataset, tmp_path: Path, name: str
) -> None:
    with one_weight_moved(by=1e-2), pytest.raises(ParityError, match="refused"):
        export.export_runs(pair[:1], small, [name], to=tmp_path / "exports")
    assert files_in(tmp_path / "exports") == []


def test_a_card_says_what_metrics_and_manifest_say(exported: Path, pair: list[Run]) -> None:
    text = card.markdown(FinishedRun(pair[0]), manifest.read(exported))
    metrics = pair[0].metrics
    assert f"**Test accuracy {metrics.accuracy:.2%}** ({metrics.correct} of {metrics.n_test};" in text
    for line in manifest.read(exported):
        assert f"| `{line.file}` | {line.precision} | {line.bytes:,} | {line.accuracy:.2%} |" in text
        assert line.sha256 in text
        assert f"\ncifar evaluate {line.file}\n" in text
    for name, share in metrics.per_class.items():
        assert f"| {name} | {share:.1%} |" in text
    assert "SYNTHETIC DATA" in text
    confusion = FinishedRun(pair[0]).scores.confusion
    assert f"({max(confusion[t, p] for t in range(10) for p in range(10) if t != p)})" in text


def test_the_front_matter_of_a_card_is_what_the_hub_reads(exported: Path, pair: list[Run]) -> None:
    entries = manifest.read(exported)
    _, front_matter, _ = card.markdown(FinishedRun(pair[0]), entries).split("---\n", 2)
    metadata = yaml.safe_load(front_matter)
    (model,) = metadata["model-index"]
    (evaluation,) = model["results"]
    assert model["name"] == pair[0].path.name
    assert evaluation["task"] == {"type": "image-classification"}
    assert evaluation["dataset"]["type"] == "synthetic"
    assert "datasets" not in metadata  # which the hub would look for
    values = {metric["name"]: metric["value"] for metric in evaluation["metrics"]}
    expected = {f"test accuracy, {entry.format}": entry.accuracy for entry in entries}
    assert values == {"test accuracy": pair[0].metrics.accuracy, **expected}
    assert {metric["type"] for metric in evaluation["metrics"]} == {"accuracy"}


def test_a_refused_export_leaves_the_earlier_one(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    export.export_runs(pair[:1], small, ["onnx"], to=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with one_weight_moved(by=1e-2), pytest.raises(ParityError):
        export.export_runs(pair[:1], small, ["onnx"], to=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_runs_share_a_folder_and_its_manifest(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    for run in (*pair, pair[0]):
        export.export_runs([run], small, ["onnx"], to=tmp_path)
    assert [line.file for line in manifest.read(tmp_path)] == [f"{run.path.name}.onnx" for run in pair]


def test_another_run_of_the_same_name_is_not_overwritten(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    name, to = pair[0].path.name, tmp_path / "models"
    first = Run(shutil.copytree(pair[0].path, tmp_path / "a" / name))
    second = Run(shutil.copytree(pair[1].path, tmp_path / "b" / name))
    export.export_runs([first], small, ["onnx"], to=to)
    before = {path.name: path.read_bytes() for path in to.iterdir()}
    for format_name in ("onnx", "tflite"):  # another format would be taken for the same model
        with pytest.raises(UsageError, match=f"models/{name}.onnx is of other weights than .*: delete it or choose"):
            export.export_runs([second], small, [format_name], to=to)
    with pytest.raises(UsageError, match=f"two runs of the name {name}"):
        export.export_runs([first, second], small, ["onnx"], to=tmp_path / "others")
    assert {path.name: path.read_bytes() for path in to.iterdir()} == before
    assert not (tmp_path / "others").exists()


def test_a_deleted_file_and_one_of_the_same_weights_are_replaced(
    pair: list[Run], small: Dataset, tmp_path: Path
) -> None:
    name, to = pair[0].path.name, tmp_path / "models"
    other = Run(shutil.copytree(pair[1].path, tmp_path / "b" / name))
    for _ in range(2):
        export.export_runs(pair[:1], small, ["onnx"], to=to)
    (to / f"{name}.onnx").unlink()
    export.export_runs([other], small, ["onnx"], to=to)
    assert [line.weights_sha256 for line in manifest.read(to)] == [pair[1].metrics.weights_sha256]


@pytest.mark.parametrize(
    ("difference", "passes"),
    [(0.0, True), (0.99e-4, True), (1.1e-4, False), (np.nan, False)],
)
def test_the_limit_of_a_difference(pair: list[Run], difference: float, passes: bool) -> None:
    expected, _ = pair[0].predictions()
    predictions = expected.copy()
    predictions[3, 4] += np.float32(difference)
    agreement, largest = export.agreement_and_difference(expected, predictions)
    sound = agreement >= parity.MIN_AGREEMENT and largest <= parity.MAX_DIFFERENCE
    assert sound == passes


def test_the_model_of_another_run_is_refused(small: Dataset, tmp_path: Path) -> None:
    wanted = [recipe("second", "none", epochs=1, seed=seed, dataset="synthetic") for seed in (0, 1)]
    runs = train_here(wanted, small, tmp_path)
    (runs[0].path / "model.keras").write_bytes((runs[1].path / "model.keras").read_bytes())
    with pytest.raises(UsageError, match="its weights are not those"):
        export.export_runs(runs[:1], small)
    (runs[1].path / "model.keras").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(UsageError, match="cannot be loaded"):
        export.export_runs(runs[1:], small)
    (runs[1].path / "model.keras").unlink()  # as in bench/baselines
    with pytest.raises(UsageError, match="not found"):
        export.export_runs(runs[1:], small)


def test_a_target_that_cannot_be_written_is_a_storage_error(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        export.export_runs(pair[:1], small, ["onnx"], to=tmp_path / "file")


def test_a_network_that_changed_since_it_was_trained_is_refused(small: Dataset, tiny: Path) -> None:
    (run,) = train_here([recipe("tinynet:build", "none", epochs=1, dataset="synthetic")], small, tiny / "runs")
    (tiny / "tinynet.py").write_text((tiny / "tinynet.py").read_text().replace("Conv2D(4", "Conv2D(5"))
    del sys.modules["tinynet"]
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match="no longer the one that was trained"):
        export.export_runs([run], small)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("function", ["build", "unregistered", "normalised", "raw"])
def test_a_users_network_is_exported_too(small: Dataset, tmp_path: Path, function: str) -> None:
    wanted = recipe(f"tinynet:{function}", "none", epochs=1, dataset="synthetic")
    (run,) = train_here([wanted], small, tmp_path / "runs")
    lines = export.export_runs([run], small, FORMATS, max_drop=100)
    assert {line.format for line in lines} == set(FORMATS)
    assert all(line.agreement == 1 for line in lines if line.precision == "float32")
