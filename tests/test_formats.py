"""The exports in lower precision: where int8's ranges come from, what the files hold, and what is refused."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from conftest import ROOT, Command, train_here
from numpy.typing import NDArray
from typer.testing import CliRunner

from cifar import cli, export, networks
from cifar.data import dataset
from cifar.data.dataset import Dataset
from cifar.export import ParityError, exporting, parity
from cifar.formats import FLOAT32_FORMATS, FORMATS, Source, graph, manifest, saved_model
from cifar.formats.bias_correction import with_corrected_biases
from cifar.formats.manifest import LogitsEntry
from cifar.inference import isolated_prediction
from cifar.inference.runtimes import RUNTIMES, load_session
from cifar.recipes import recipe
from cifar.runs.loading import load_keras
from cifar.runs.run import Run
from cifar.system import files

LOWER = tuple(name for name in FORMATS if name not in FLOAT32_FORMATS)
INT8 = ("tflite-int8", "onnx-int8")
ONE_FILE = tuple(name for name in FORMATS if name != "saved-model")
SEED, TRAIN_IMAGES = 1, 1000
ODD = """
import keras
import tensorflow as tf
from keras import layers


class Bessel(layers.Layer):
    def call(self, inputs):
        return tf.math.bessel_i0e(inputs)


def build():
    return keras.Sequential([
        keras.Input((32, 32, 3), dtype="uint8"),
        layers.Rescaling(1 / 255),
        Bessel(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])
"""


@pytest.fixture(scope="module")
def data() -> Dataset:
    """What the command line draws: 1000 test pictures, so that one is a tenth of a point."""
    return dataset.draw_synthetic()


@pytest.fixture(scope="module")
def learned(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`second`, trained on the first 1000 pictures until it has some accuracy to lose."""
    short = {"train_images": TRAIN_IMAGES, "batch_size": 32}
    wanted = recipe("second", "none", seed=SEED, epochs=10, dataset="synthetic").model_copy(update=short)
    (run,) = train_here([wanted], data, tmp_path_factory.mktemp("learned"))
    assert run.metrics.accuracy > 0.25
    return run


@pytest.fixture(scope="module")
def lower(learned: Run, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`learned` in every format that is one file."""
    folder = tmp_path_factory.mktemp("lower")
    export.export_runs([learned], data, ONE_FILE, folder, max_drop=100)
    return folder


@pytest.fixture(scope="module")
def odd(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A user's network with an operation that neither TFLite nor ONNX has."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "oddnet.py").write_text(ODD)
    wanted = recipe("oddnet:build", "none", epochs=1, dataset="synthetic").model_copy(update={"train_images": 64})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        (run,) = train_here([wanted], data, folder)
        yield run


def file_of(folder: Path, run: Run, name: str) -> Path:
    return folder / f"{run.path.name}{FORMATS[name].suffix}"


def line_of(folder: Path, name: str) -> manifest.ManifestEntry:
    (line,) = (line for line in manifest.read(folder) if line.format == name)
    return line


def contents(folder: Path) -> dict[str, str]:
    """Digests by name of what an export left in a folder."""
    return {path.name: files.sha256(path) for path in folder.glob("[!.]*")}


# Which images int8 is calibrated on


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (300, 300), (500, 500), (501, 500), (50_000, 500)])
def test_calibration_takes_up_to_500_distinct_training_images_in_order(n: int, expected: int) -> None:
    chosen = export.calibration_indices(SEED, n)
    assert len(chosen) == expected
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] <= chosen[-1] < n


def test_calibration_draws_from_all_training_images_alike() -> None:
    drawn = np.concatenate([export.calibration_indices(seed, 1000) for seed in range(100)])
    assert abs(drawn.mean() / 499.5 - 1) < 0.01  # its standard error is 0.0018
    counts = np.bincount(drawn, minlength=1000)  # 50 of each on average, standard deviation 5
    assert counts.min() > 20
    assert counts.max() < 80


def test_calibration_depends_on_the_seed_and_on_nothing_around_it() -> None:
    chosen = export.calibration_indices(0, 10_000)
    np.random.seed(5)
    np.testing.assert_array_equal(export.calibration_indices(0, 10_000), chosen)
    assert chosen[:6].tolist() == [0, 1, 54, 84, 113, 116]  # as in every version: a manifest can be redrawn
    assert set(export.calibration_indices(1, 10_000)) != set(chosen)


def test_the_manifest_lists_the_calibration_images_of_int8_alone(lower: Path) -> None:
    for name in INT8:
        assert line_of(lower, name).calibration == export.calibration_indices(SEED, TRAIN_IMAGES).tolist()
    for name in set(ONE_FILE) - set(INT8):
        assert line_of(lower, name).calibration is None


def test_a_small_training_set_is_taken_whole(exported: Path) -> None:
    assert [line.calibration for line in manifest.read(exported) if line.format in INT8] == [list(range(300))] * 2


def test_no_calibration_image_is_a_test_image(lower: Path, data: Dataset) -> None:
    test = {image.tobytes() for image in data.x_test}
    listed = line_of(lower, "onnx-int8").calibration
    assert listed
    assert not test & {data.x_train[index].tobytes() for index in listed}


# The ranges in the files are those of the listed images

Ranges = NDArray[np.float64]  # (activations, 2): smallest, largest


def ranges(model: Any, images: NDArray[np.uint8]) -> Ranges:
    """What the Keras model's convolutions and dense layers give at least and at most, the last before its softmax."""
    import keras

    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    outputs = keras.Model(model.inputs[0], [layer.output for layer in layers])(images)[:-1]
    logits = keras.ops.matmul(outputs[-1], layers[-1].kernel) + layers[-1].bias
    return np.array([(np.min(output), np.max(output)) for output in (*outputs, logits)], np.float64)


def scales(found: Ranges) -> NDArray[np.float64]:
    """(activations, 2): the scale and the zero point, from 0, of 8 bits that reach over a range and over 0."""
    low, high = np.minimum(found[:, 0], 0), np.maximum(found[:, 1], 0)
    scale = (high - low) / 255
    return np.stack([scale, -low / scale], axis=1)


def in_file(path: Path) -> NDArray[np.float64]:
    """The same, as a file has it."""
    return np.array(_in_onnx(path) if path.suffix == ".onnx" else _in_tflite(path), np.float64)


def _in_onnx(path: Path) -> list[tuple[float, int]]:
    proto, constants = read_onnx(path)
    quantised = {node.input[0]: node for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    multiplying = [node for node in proto.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    ends = [quantised[node.output[0]].input[1:] for node in multiplying]
    return [(float(constants[scale]), int(constants[zero])) for scale, zero in ends]


def _in_tflite(path: Path) -> list[tuple[float, int]]:
    operators, tensors, _ = read_tflite(path)
    ends = [outputs[0] for name, _, outputs in operators if name in ("CONV_2D", "FULLY_CONNECTED")]
    return [(tensors[end].quantization.scale[0], tensors[end].quantization.zeroPoint[0] + 128) for end in ends]


def read_onnx(path: Path) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The onnx.ModelProto and its constants."""
    import onnx

    proto = onnx.load(path)
    return proto, {constant.name: onnx.numpy_helper.to_array(constant) for constant in proto.graph.initializer}


def read_tflite(path: Path) -> tuple[list[tuple[str, list[int], list[int]]], list[Any], list[Any]]:
    """The operators with their inputs and outputs, the tensors, the buffers."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (subgraph,) = model.subgraphs
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    kinds = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    operators = [(kinds[op.opcodeIndex], list(op.inputs), list(op.outputs)) for op in subgraph.operators]
    return operators, subgraph.tensors, model.buffers


def assert_same(found: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], expected[:, 1], atol=0.51)  # a whole number


@pytest.mark.parametrize("name", INT8)
def test_the_scales_are_those_of_the_listed_images_in_the_keras_model(
    lower: Path, learned: Run, data: Dataset, name: str
) -> None:
    found, line = in_file(file_of(lower, learned, name)), line_of(lower, name)
    calibration = data.x_train[line.calibration]
    assert len(found) == 8
    model = with_corrected_biases(load_keras(learned), calibration)
    expected = ranges(model, calibration)
    assert line.logits is not None
    assert line.logits.centred
    expected[-1] = line.logits.range
    assert_same(found, scales(expected))
    others = scales(ranges(model, data.x_train[TRAIN_IMAGES : 2 * TRAIN_IMAGES]))
    assert not np.allclose(found[:, 0], others[:, 0], rtol=1e-3)


@pytest.mark.parametrize("name", INT8)
@pytest.mark.parametrize("place", [0, -1])
def test_the_first_and_the_last_calibration_image_count(
    learned: Run, data: Dataset, tmp_path: Path, name: str, place: int
) -> None:
    model, images = load_keras(learned), data.x_train[:101] // 16
    images[place] = data.x_train[0]
    FORMATS[name].module.write(Source(model, {}, images), tmp_path / f"file{FORMATS[name].suffix}")
    assert_same(in_file(tmp_path / f"file{FORMATS[name].suffix}"), scales(ranges(model, images)))


def kernels(run: Run) -> list[NDArray[np.float32]]:
    return [layer.kernel.numpy() for layer in load_keras(run).layers if hasattr(layer, "kernel")]


def kernels_of_int8(run: Run) -> list[NDArray[np.float32]]:
    """The Keras model's, but in the last one the mean over the classes is 0."""
    *others, last = kernels(run)
    return [*others, last - last.mean(axis=-1, keepdims=True)]


def test_the_weights_of_onnx_int8_are_the_models_to_half_a_step_of_each_channel(lower: Path, learned: Run) -> None:
    proto, constants = read_onnx(file_of(lower, learned, "onnx-int8"))
    made_by = {node.output[0]: node for node in proto.graph.node}
    multiplying = [node for node in proto.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    for node, kernel in zip(multiplying, kernels_of_int8(learned), strict=True):
        weights, scale, zero = (constants[name] for name in made_by[node.input[1]].input)
        expected = kernel.transpose(3, 2, 0, 1) if node.op_type == "Conv" else kernel
        assert weights.dtype == np.int8
        assert scale.shape == (kernel.shape[-1],)
        assert not zero.any()
        step = scale.reshape(-1, 1, 1, 1) if node.op_type == "Conv" else scale
        assert (np.abs(weights * step - expected) <= step * 0.501).all()


def test_the_weights_of_tflite_int8_are_the_models_to_half_a_step_of_each_channel(lower: Path, learned: Run) -> None:
    from ai_edge_litert.schema_py_generated import TensorType

    operators, tensors, buffers = read_tflite(file_of(lower, learned, "tflite-int8"))
    constants = [inputs[1] for name, inputs, _ in operators if name in ("CONV_2D", "FULLY_CONNECTED")]
    for index, (constant, kernel) in enumerate(zip(constants, kernels_of_int8(learned), strict=True)):
        tensor = tensors[constant]
        assert tensor.type == TensorType.INT8
        assert not np.any(tensor.quantization.zeroPoint)
        expected = np.moveaxis(kernel, -1, 0).reshape(kernel.shape[-1], -1) / (1 if index else 255)  # bytes come in
        weights = np.frombuffer(bytes(buffers[tensor.buffer].data), np.int8).reshape(expected.shape)
        step = np.array(tensor.quantization.scale)[:, np.newaxis]
        assert len(step) == len(weights)
        assert (np.abs(weights * step - expected) <= step * 0.501).all()


# What the files are


@pytest.mark.parametrize("name", ["tflite", "tflite-float16", "tflite-int8"])
def test_every_tflite_file_keeps_the_contract(exported: Path, pair: list[Run], name: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file_of(exported, pair[0], name)))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["probabilities"]}
    }
    (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["dtype"], image["shape_signature"].tolist()) == (np.uint8, [-1, 32, 32, 3])
    assert (probabilities["dtype"], probabilities["shape_signature"].tolist()) == (np.float32, [-1, 10])


def test_tflite_int8_takes_bytes_as_they_are_and_its_last_operation_alone_makes_floats(
    exported: Path, pair: list[Run]
) -> None:
    from ai_edge_litert.schema_py_generated import TensorType

    operators, tensors, _ = read_tflite(file_of(exported, pair[0], "tflite-int8"))
    names = [name for name, _, _ in operators]
    assert set(names) == {
        "QUANTIZE", "CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX", "DEQUANTIZE",
    }  # fmt: skip
    assert (names.count("QUANTIZE"), names.count("DEQUANTIZE"), names[-1]) == (1, 1, "DEQUANTIZE")
    last = operators[-1][2][0]
    floats = {index for index, tensor in enumerate(tensors) if tensor.type not in (
        TensorType.UINT8, TensorType.INT8, TensorType.INT32)}  # fmt: skip
    assert floats == {last}
    (quantize,) = (inputs for name, inputs, _ in operators if name == "QUANTIZE")
    image, softmax = tensors[quantize[0]], tensors[operators[-1][1][0]]
    assert (image.type, *image.quantization.scale, *image.quantization.zeroPoint) == (TensorType.UINT8, 1, 0)
    assert (*softmax.quantization.scale, *softmax.quantization.zeroPoint) == (1 / 256, -128)


def test_onnx_int8_keeps_the_contract(exported: Path, pair: list[Run]) -> None:
    import onnx

    proto, _ = read_onnx(file_of(exported, pair[0], "onnx-int8"))
    ends = [(end.name, end.type.tensor_type) for end in (*proto.graph.input, *proto.graph.output)]
    shapes = [[dim.dim_param or dim.dim_value for dim in kind.shape.dim] for _, kind in ends]
    assert [(name, kind.elem_type, shape) for (name, kind), shape in zip(ends, shapes, strict=True)] == [
        ("image", onnx.TensorProto.UINT8, ["N", 32, 32, 3]),
        ("probabilities", onnx.TensorProto.FLOAT, ["N", 10]),
    ]
    assert [entry.version for entry in proto.opset_import if entry.domain == ""] == [18]
    assert {node.domain for node in proto.graph.node} == {""}


def test_onnx_int8_computes_in_bytes_all_but_the_scaling_and_the_softmax(exported: Path, pair: list[Run]) -> None:
    proto, constants = read_onnx(file_of(exported, pair[0], "onnx-int8"))
    made_by = {name: node.op_type for node in proto.graph.node for name in node.output}
    taken_by = {name: node.op_type for node in proto.graph.node for name in node.input}
    between = [
        node.op_type
        for node in proto.graph.node
        if made_by.get(node.input[0]) == "DequantizeLinear" and taken_by.get(node.output[0]) == "QuantizeLinear"
    ]
    assert between == [*["Conv", "Conv", "MaxPool"] * 3, "Transpose", "Reshape", "Gemm", "Gemm"]
    others = [node.op_type for node in proto.graph.node if "Linear" not in node.op_type]
    assert sorted(set(others) - set(between)) == ["Cast", "Mul", "Softmax"]
    zeros = [constants[node.input[2]] for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert {zero.dtype for zero in zeros} == {np.dtype(np.uint8)}


def test_float16_weights_are_the_models_rounded_in_half_the_bytes(lower: Path, learned: Run) -> None:
    from ai_edge_litert.schema_py_generated import TensorType

    path = file_of(lower, learned, "tflite-float16")
    operators, tensors, buffers = read_tflite(path)
    widened = {outputs[0]: inputs[0] for name, inputs, outputs in operators if name == "DEQUANTIZE"}
    constants = [inputs[1] for name, inputs, _ in operators if name in ("CONV_2D", "FULLY_CONNECTED")]
    for index, (constant, kernel) in enumerate(zip(constants, kernels(learned), strict=True)):
        tensor = tensors[widened[constant]]
        assert tensor.type == TensorType.FLOAT16
        expected = np.moveaxis(kernel, -1, 0).ravel() / (1 if index else 255)
        weights = np.frombuffer(bytes(buffers[tensor.buffer].data), np.float16)
        np.testing.assert_allclose(weights, expected, rtol=5e-4, atol=2**-24)
    assert 0.49 < path.stat().st_size / file_of(lower, learned, "tflite").stat().st_size < 0.52


@pytest.mark.parametrize(
    ("name", "tolerance"), [("tflite-float16", 1e-5), ("tflite-int8", 0.02), ("onnx-int8", 1e-5)]
)
def test_every_row_sums_to_1(lower: Path, learned: Run, data: Dataset, name: str, tolerance: float) -> None:
    predictions = load_session(name, file_of(lower, learned, name), 2)(data.x_test)
    assert np.abs(predictions.sum(axis=1) - 1).max() <= tolerance
    assert (predictions >= 0).all()


def test_lower_precision_seldom_changes_a_class(lower: Path, learned: Run) -> None:
    least = {"float32": 1.0, "float16": 0.995, "int8": 0.95}
    for line in manifest.read(lower):
        assert line.agreement >= least[line.precision], line.format
        assert abs(line.accuracy - learned.metrics.accuracy) <= 1 - line.agreement + 1e-9
        assert (line.precision == "float32") == (line.max_difference <= 1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_says_its_precision_in_itself_and_in_the_manifest(exported: Path, pair: list[Run], name: str) -> None:
    precision = {"tflite-float16": "float16", **dict.fromkeys(INT8, "int8")}.get(name, "float32")
    assert line_of(exported, name).precision == precision
    facts = FORMATS[name].module.read_metadata(file_of(exported, pair[0], name))
    assert (facts["precision"], facts["network"], facts["format_version"]) == (precision, "second", "1")


# What is refused


class Predictions:
    """Stands for the writing and the running of an export: these probabilities are what its file predictions."""

    def __init__(self, patch: pytest.MonkeyPatch, probabilities: NDArray[np.float32]) -> None:
        for form in FORMATS.values():
            patch.setattr(form.module, "write", lambda _source, path: path.write_bytes(b"a file"))
        self.probabilities = probabilities
        patch.setattr(isolated_prediction, "predict_in_subprocess", self)

    def __call__(
        self, _name: str, paths: list[Path], _images: NDArray[np.uint8], _threads: int, *_more: Any
    ) -> list[NDArray[np.float32]]:
        return [self.probabilities for _ in paths]


def worse_by(run: Run, images: int) -> NDArray[np.float32]:
    """The Keras model's predictions, with so many of the right ones wrong; more right ones if negative."""
    predictions, labels = (array.copy() for array in run.predictions())
    right = predictions.argmax(axis=1) == labels
    for index in np.flatnonzero(right if images > 0 else ~right)[: abs(images)]:
        predictions[index] = np.eye(10, dtype=np.float32)[(labels[index] + (images > 0)) % 10]
    return predictions


# One of 1000 test images is 0.1 points.
@pytest.mark.parametrize(
    ("name", "max_drop", "lost", "passes"),
    [
        ("tflite-float16", None, 2, True),
        ("tflite-float16", None, 3, False),
        ("tflite-float16", 0.5, 5, True),
        ("tflite-float16", 0.5, 6, False),
        ("tflite-int8", None, 5, True),
        ("tflite-int8", None, 6, False),
        ("onnx-int8", None, 5, True),
        ("onnx-int8", None, 6, False),
        ("onnx-int8", None, -200, True),
        ("onnx-int8", 0, 0, True),
        ("onnx-int8", 0, 1, False),
        ("onnx-int8", 100, 200, True),
        ("onnx", 100, 0, True),
        ("onnx", 100, 1, False),
        ("onnx", 100, -1, False),
    ],
)
def test_the_limit_of_a_drop(
    learned: Run, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, max_drop: float | None, lost: int, passes: bool,
) -> None:  # fmt: skip
    Predictions(monkeypatch, worse_by(learned, lost))
    if not passes:
        with pytest.raises(ParityError, match="refused"):
            export.export_runs([learned], data, [name], tmp_path, max_drop=max_drop)
        assert contents(tmp_path) == {}
        return
    (line,) = export.export_runs([learned], data, [name], tmp_path, max_drop=max_drop)
    assert line.accuracy == pytest.approx(learned.metrics.accuracy - lost / 1000)
    assert line.agreement == pytest.approx(1 - abs(lost) / 1000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", FORMATS)
def test_outputs_that_are_no_numbers_are_refused_whatever_may_be_lost(
    learned: Run, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    predictions = worse_by(learned, 0)
    predictions[7, learned.predictions()[1][7]] = value  # even where it counts as right
    Predictions(monkeypatch, predictions)
    with pytest.raises(ParityError, match="refused") as error:
        export.export_runs([learned], data, [name], tmp_path, max_drop=100)
    assert "it loses" not in str(error.value)  # it does not
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", INT8)
def test_an_int8_file_whose_ranges_are_too_small_is_refused_and_the_earlier_one_stays(
    lower: Path, learned: Run, data: Dataset, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def in_the_dark(model: Any, metadata: dict[str, str], calibration: NDArray[np.uint8]) -> Source:
        return Source(model, metadata, calibration // 50)

    before = contents(lower)
    monkeypatch.setattr(exporting, "Source", in_the_dark)
    with pytest.raises(ParityError, match=r"it loses \d\d\.\d\d points of accuracy \(at most 0\.5; --max-drop\)"):
        export.export_runs([learned], data, [name], lower)
    assert contents(lower) == before


def test_a_float16_file_with_a_wrong_weight_is_refused_unless_the_user_allows_it(
    learned: Run, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = graph.serving

    def serving(model: Any, *dtype: str) -> Any:
        bias = model.layers[-1].bias
        bias.assign(bias.numpy() + 100 * (np.arange(10) == 3))
        return honest(model, *dtype)

    monkeypatch.setattr("cifar.formats.saved_model.serving", serving)
    with pytest.raises(ParityError, match=r"at most 0\.2; --max-drop"):
        export.export_runs([learned], data, ["tflite-float16"], tmp_path)
    assert contents(tmp_path) == {}
    (line,) = export.export_runs([learned], data, ["tflite-float16"], tmp_path, max_drop=100)
    assert line.accuracy == (data.y_test == 3).mean()
    assert contents(tmp_path).keys() == {line.file, f"{line.file}.top1.npz", "manifest.json"}


def test_a_format_that_is_refused_keeps_the_others_of_its_run_back(
    learned: Run, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Predictions(monkeypatch, worse_by(learned, 5))
    with pytest.raises(ParityError, match=r"\.float16\.tflite: refused"):
        export.export_runs([learned], data, ["onnx-int8", "tflite-float16"], tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ONE_FILE)
def test_a_network_that_a_format_cannot_express_is_one_sentence(
    odd: Run, data: Dataset, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ParityError, match=rf"oddnet\.build-none-s0 cannot be written as {name}: ") as error:
        export.export_runs([odd], data, ["saved-model", name], tmp_path)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""
    assert contents(tmp_path) == {}


def test_a_network_that_cannot_be_expressed_keeps_no_other_from_its_file(
    odd: Run, learned: Run, data: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ParityError, match=r"oddnet\.build-none-s0 cannot be written as onnx"):
        export.export_runs([odd, learned], data, ["onnx"], tmp_path)
    assert [line.file for line in manifest.read(tmp_path)] == [f"{learned.path.name}.onnx"]


def test_a_file_whose_runtime_dies_keeps_no_other_from_its_place(learned: Run, data: Dataset, tmp_path: Path) -> None:
    short = recipe("second", "none", epochs=1, dataset="synthetic").model_copy(update={"train_images": 64})
    (other,) = train_here([short], data, tmp_path / "other")
    ask = isolated_prediction.predict_in_subprocess

    def damaging(name: str, paths: Sequence[Path], *rest: Any) -> Any:
        paths[0].write_bytes(b"no model")
        return ask(name, paths, *rest)

    with (
        patch.object(isolated_prediction, "predict_in_subprocess", damaging),
        pytest.raises(ParityError, match="onnxruntime cannot run"),
    ):
        export.export_runs([other, learned], data, ["onnx"], tmp_path / "to")
    assert [line.file for line in manifest.read(tmp_path / "to")] == [f"{learned.path.name}.onnx"]


# The command


def test_training_does_not_call_proven_what_was_refused(cifar: Command, odd: Run) -> None:
    search = f"{ROOT}:{odd.path.parent}"
    words = ("--network", "oddnet:build", "--augment", "none", "--data", "synthetic", "--epochs", "1", "--quiet")
    output = cifar("train", *words, PYTHONPATH=search)
    assert output.code == 1
    assert "cannot be written as" in output.err
    assert "proven" not in output.err


def test_a_network_that_onnx_cannot_express_is_one_sentence_and_1(cifar: Command, odd: Run, tmp_path: Path) -> None:
    search = f"{ROOT}:{odd.path.parent}"
    output = cifar("export", odd.path, "--format", "onnx-int8", "--to", "out", PYTHONPATH=search)
    assert output.code == 1
    assert output.out == ""
    (sentence,) = output.err.splitlines()
    assert sentence.startswith(f"error: {odd.path} cannot be written as onnx-int8: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("RUN", FLOAT32_FORMATS),
        ("RUN --format tflite-int8", ["tflite-int8"]),
        ("RUN --format tflite-int8,onnx-int8,tflite-float16", ["tflite-int8", "onnx-int8", "tflite-float16"]),
        ("--format tflite-int8,onnx-int8 RUN", ["tflite-int8", "onnx-int8"]),
        ("--format onnx-int8 --format tflite RUN", ["onnx-int8", "tflite"]),
        ("--format onnx,tflite RUN --format onnx-int8,saved-model", ["onnx", "tflite", "onnx-int8", "saved-model"]),
        ("--format=onnx-int8 RUN", ["onnx-int8"]),
        ("RUN --format onnx,onnx,tflite,onnx", ["onnx", "tflite"]),
        ("RUN --format all", FORMATS),
        ("--format all RUN", FORMATS),
        ("--format all,onnx RUN", FORMATS),
        ("--format onnx,all RUN", FORMATS),
        ("--format onnx --to onnx RUN", ["onnx"]),
    ],
)
def test_one_or_several_formats_follow_the_option(
    learned: Run, monkeypatch: pytest.MonkeyPatch, arguments: str, names: list[str]
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(export, "export_runs", lambda *values: calls.append(values) or [])
    words = arguments.replace("RUN", str(learned.path)).split()
    done = CliRunner().invoke(cli.app, ["export", *words, "--json"])
    assert done.exit_code == 0, done.output
    ((runs, _, formats, to, threads, max_drop, keep_float, _),) = calls
    assert list(formats) == list(names)
    assert [run.path for run in runs] == [learned.path]
    assert to == (Path("onnx") if "--to" in arguments else learned.path / "exports")
    assert (threads, max_drop, keep_float) == (2, None, [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--format tflite-int", ["'tflite-int'", "Did you mean 'tflite-int8'", *FORMATS, ", all."]),
        ("--format onnx --format onnx-int9", ["Did you mean 'onnx-int8'"]),
        ("--max-drop -1", ["--max-drop"]),
        ("--max-drop little", ["--max-drop"]),
        ("--format tflite-int8,onnx-int8 --keep-float probabilities", ["--keep-float works with --format onnx-int8"]),
        ("--format onnx --keep-float probabilities", ["--keep-float works with --format onnx-int8"]),
        ("--format onnx-int8 --keep-float probability", ["no layer with a kernel", "Did you mean 'probabilities'?"]),
    ],
)
def test_a_request_that_cannot_be_met_is_2(
    cifar: Command, learned: Run, tmp_path: Path, arguments: str, words: list[str]
) -> None:
    output = cifar("export", learned.path, *arguments.split(), "--to", "out")
    assert (output.code, output.out) == (2, "")
    for word in words:
        assert word in " ".join(output.err.split())
    assert not (tmp_path / "out").exists()


def test_the_user_says_how_much_may_be_lost(learned: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Predictions(monkeypatch, worse_by(learned, 15))
    words = ["export", str(learned.path), "--format", "tflite-int8,onnx-int8", "--to", str(tmp_path)]
    refused = CliRunner().invoke(cli.app, words)
    assert isinstance(refused.exception, ParityError)
    assert refused.exception.exit_code == 1
    assert "it loses 1.50 points of accuracy (at most 0.5; --max-drop)" in str(refused.exception)
    assert contents(tmp_path) == {}
    assert CliRunner().invoke(cli.app, [*words, "--max-drop", "1.5"]).exit_code == 0
    assert [line.format for line in manifest.read(tmp_path)] == ["onnx-int8", "tflite-int8"]


def test_the_last_layer_stays_in_float_where_the_user_says_so(cifar: Command, learned: Run, tmp_path: Path) -> None:
    words = ["export", learned.path, "--to", "out", "--max-drop", "100"]
    assert cifar(*words, "--format", "onnx").code == 0
    assert cifar(*words, "--format", "onnx-int8", "--keep-float", "probabilities").code == 0
    kept, float32 = manifest.read(tmp_path / "out")
    assert (kept.keep_float, float32.keep_float) == (["probabilities"], [])
    assert kept.logits == LogitsEntry(centred=True)
    found = cifar("diagnose", f"out/{kept.file}", "--json")
    tensors = [tensor["name"] for tensor in json.loads(found.out)["tensors"]]
    assert "dense" in tensors[-1], "the logits are not quantised"


def test_biases_of_an_int8_file_are_corrected_for_the_rounding_of_the_kernels(
    cifar: Command, learned: Run, data: Dataset, tmp_path: Path
) -> None:
    import onnx

    assert cifar("export", learned.path, "--to", "out", "--format", "onnx-int8", "--max-drop", "100").code == 0
    (entry,) = manifest.read(tmp_path / "out")
    calibration = data.head(learned.recipe.train_images).x_train[entry.calibration]
    model = load_keras(learned)
    corrected = with_corrected_biases(model, calibration)
    proto = onnx.load(str(tmp_path / "out" / entry.file))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and "conv1a_1/Squeeze" in node.input[0]:
            integers, scale = (constants[name] for name in node.input[:2])
    expected, before = (source.get_layer("conv1a").bias.numpy() for source in (corrected, model))
    np.testing.assert_allclose(integers * scale, expected, atol=scale.max())
    assert np.abs(expected - before).max() > 3 * scale.max()


def test_a_file_has_the_same_bytes_whatever_process_wrote_it_and_after_which_others(
    cifar: Command, lower: Path, learned: Run, tmp_path: Path
) -> None:
    names = ONE_FILE[::-1]
    output = cifar("export", learned.path, "--format", ",".join(names), "--max-drop", "100", "--to", "out", "--json")
    assert output.code == 0, output.err
    assert [line["format"] for line in output.json["exports"]] == list(names)
    assert contents(tmp_path / "out") == contents(lower)


def test_a_saved_model_has_the_same_bytes_whatever_the_process_traced_before(tmp_path: Path) -> None:
    model = networks.build_with_fresh_names("second")
    written = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        saved_model.write(Source(model, {}, np.empty((0, 32, 32, 3), np.uint8)), folder)
        written.append(contents(folder))
    assert written[0] == written[1]


# What a loaded file says of itself

LOAD = """
import sys
from pathlib import Path
from cifar.inference.runtimes import load_session
name, path, threads, plain = sys.argv[1:]
if plain == "True":
    from ai_edge_litert import interpreter
    class Plain(interpreter.Interpreter):
        def __init__(self, *arguments, **options):
            kernels = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            super().__init__(*arguments, **options, experimental_op_resolver_type=kernels)
    interpreter.Interpreter = Plain
loaded = load_session(name, Path(path), int(threads))
print(loaded.provider, loaded.threads, sep="|")
"""


def what_runs(path: Path, name: str, threads: int, plain: bool = False) -> tuple[str, int]:
    """Provider and threads of a file that a fresh process loads."""
    command = [sys.executable, "-c", LOAD, name, str(path), str(threads), str(plain)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    provider, counted = done.stdout.strip().split("|")
    return provider, int(counted)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_loaded_file_is_run_by_what_its_format_names_with_the_threads_asked(
    exported: Path, pair: list[Run], name: str, threads: int
) -> None:
    expected = {"saved-model": "CPU", "onnx": "CPUExecutionProvider", "onnx-int8": "CPUExecutionProvider"}
    assert RUNTIMES[FORMATS[name].runtime].providers["cpu"] == expected.get(name, "XNNPACK")
    assert what_runs(file_of(exported, pair[0], name), name, threads) == (
        RUNTIMES[FORMATS[name].runtime].providers["cpu"],
        threads,
    )


@pytest.mark.parametrize("name", ["tflite", "tflite-int8"])
def test_a_tflite_file_without_its_delegate_says_so(exported: Path, pair: list[Run], name: str) -> None:
    assert what_runs(file_of(exported, pair[0], name), name, 2, plain=True) == ("built-in kernels", 1)


# Residual connections, batch normalization, GELU


HEAD_SCALE = {"resnet8": 1, "airbench94": 10}  # so that there are several classes, and none is certain


@pytest.fixture(scope="module", params=["resnet8", pytest.param("airbench94", marks=pytest.mark.slow)])
def normalised(request: pytest.FixtureRequest, data: Dataset) -> Any:
    """A network with batch normalization, whose statistics are those of some images."""
    import keras

    keras.utils.set_random_seed(0)
    model = networks.build_with_fresh_names(request.param)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
        layer.beta.assign(keras.random.normal(layer.beta.shape, stddev=0.1))
    model(data.x_train[:200], training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    head = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
    head.kernel.assign(head.kernel * HEAD_SCALE[request.param])
    if head.use_bias:
        head.bias.assign(-np.log(model.predict_on_batch(data.x_train[:200])).mean(axis=0))
    return model


@pytest.mark.parametrize("name", FORMATS)
def test_a_network_with_batch_normalization_is_the_same_model_in_every_format(
    normalised: Any, data: Dataset, tmp_path: Path, name: str
) -> None:
    path = tmp_path / f"file{FORMATS[name].suffix}"
    FORMATS[name].module.write(Source(normalised, {}, data.x_train[:100]), path)
    session = load_session(name, path, 2)
    expected = normalised.predict_on_batch(data.x_test[:200])
    assert expected.std(axis=0).max() > 0.05
    assert len(set(expected.argmax(axis=1))) > 5
    differences = []
    for batch in (1, 50, 200):
        predicted = np.concatenate([session(data.x_test[i : i + batch]) for i in range(0, 200, batch)])
        agreement, difference = parity.agreement_and_difference(expected, predicted)
        differences.append(difference)
        if name in FLOAT32_FORMATS:
            assert agreement >= parity.MIN_AGREEMENT
            assert difference <= parity.MAX_DIFFERENCE
        assert agreement > 0.7
    assert max(differences) < {"float32": 1e-4, "float16": 0.01, "int8": 0.5}[FORMATS[name].precision]


def test_tflite_folds_batch_normalization_after_a_convolution_and_knows_gelu(normalised: Any, tmp_path: Path) -> None:
    FORMATS["tflite"].module.write(Source(normalised, {}, np.empty((0, 32, 32, 3), np.uint8)), tmp_path / "file")
    operators, _, _ = read_tflite(tmp_path / "file")
    counts = Counter(kind for kind, _, _ in operators)
    if normalised.name == "resnet8":
        assert (counts["CONV_2D"], counts["MUL"], counts["ADD"]) == (9, 0, 3)
    else:  # pixels, and the three normalizations after a pooling
        assert (counts["CONV_2D"], counts["MUL"], counts["ADD"], counts["GELU"]) == (7, 4, 4, 7)


# Multiply-adds


@pytest.mark.parametrize("name", networks.PUBLISHED)
def test_multiply_adds_are_those_of_the_formula(name: str) -> None:
    a, b, c = networks.NETWORKS[name].filters
    places = [(32, 3, a), (30, a, a), (15, a, b), (13, b, b), (6, b, c), (4, c, c)]  # side of the output, filters
    convolutions = [side**2 * 3**2 * before * after for side, before, after in places]
    expected = sum(convolutions) + 2 * 2 * c * 512 + 512 * 10
    assert networks.multiply_adds(networks.build(name)) == expected
    # Forwards, and backwards to weights and inputs; the image needs no gradient.
    assert networks.training_flop(networks.build(name)) == 3 * 2 * expected - 2 * convolutions[0]
    if name == "first":
        assert 3 * 2 * expected - 2 * convolutions[0] == pytest.approx(127.9e6, abs=0.05e6)


def _shared(layers: Any, image: Any) -> Any:
    twice = layers.Dense(8)
    return twice(twice(layers.Dense(8)(layers.Flatten()(image))))


def _nested(layers: Any, image: Any) -> Any:
    import keras

    inner = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(4, 3)])
    return layers.Flatten()(inner(image))


def _separable(layers: Any, image: Any) -> Any:
    return layers.Flatten()(layers.SeparableConv2D(4, 3)(image))


@pytest.mark.parametrize("body", [_shared, _nested, _separable])
def test_multiply_adds_that_cannot_be_counted_are_none(body: Any) -> None:
    import keras

    image = keras.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax")(body(keras.layers, image)))
    assert networks.multiply_adds(model) is None


def test_multiply_adds_of_a_users_network() -> None:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(4, 3, strides=4),  # 8 by 8
            layers.DepthwiseConv2D(3),  # 6 by 6
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    assert networks.multiply_adds(model) == 8 * 8 * 3 * 3 * 3 * 4 + 6 * 6 * 3 * 3 * 4 + 6 * 6 * 4 * 10
