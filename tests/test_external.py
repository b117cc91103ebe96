"""Models from other hands are scored exactly as by a bare loop on their own runtime."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from helpers.onnx_files import DEQUANTISE, linear, weights
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from cifar.data import dataset
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.inference import scoring
from cifar.inference.isolated_prediction import InferenceError
from cifar.inference.preprocessing import RANGES, Preprocessing, PreprocessingNeededError
from cifar.inference.runtimes import Tensor
from cifar.metrics import classification

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def few() -> Dataset:
    return dataset.draw_synthetic(600, 250)


def bare_onnx(path: Path, prepare: Callable[[Bytes], NDArray[Any]], images: Bytes) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[0]
    size = size if isinstance(size, int) else len(images)
    parts = [session.run(None, {"pixels": prepare(images[i : i + size])})[0] for i in range(0, len(images), size)]
    return np.concatenate(parts)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def standardised(images: Bytes) -> NDArray[np.float32]:
    scaled = (images.astype(np.float32) / np.float32(255) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("shape", "kind", "last", "preprocessing", "prepare"),
    [
        (("n", 3, 32, 32), TensorProto.FLOAT, None, Preprocessing(None, MEAN, STD), standardised),
        (
            ("n", 32, 32, 3),
            TensorProto.FLOAT,
            "Softmax",
            Preprocessing("0..1"),
            lambda x: x.astype("f4") / np.float32(255),
        ),
        (
            (50, 32, 32, 3),
            TensorProto.FLOAT,
            None,
            Preprocessing("-1..1"),
            lambda x: x.astype("f4") / np.float32(127.5) - 1,
        ),
        (
            (1, 3, 32, 32),
            TensorProto.FLOAT,
            None,
            Preprocessing("0..255"),
            lambda x: x.astype("f4").transpose(0, 3, 1, 2),
        ),
        (("n", 32, 32, 3), TensorProto.UINT8, "Softmax", Preprocessing(), lambda x: x),
    ],
)
def test_an_onnx_file_is_scored_as_by_a_bare_loop(
    tmp_path: Path,
    few: Dataset,
    shape: tuple[Any, ...],
    kind: int,
    last: str | None,
    preprocessing: Preprocessing,
    prepare: Callable[[Bytes], NDArray[Any]],
) -> None:
    path = linear(tmp_path / "m.onnx", shape, kind, last)
    scored = scoring.score_file(path, few, preprocessing, None, 1)
    raw = bare_onnx(path, prepare, few.x_test)
    assert scored.outputs == ("probabilities" if last else "logits")
    np.testing.assert_array_equal(scored.probabilities, raw if last else softmax(raw))


def test_a_quantised_onnx_input_is_read_from_its_graph(tmp_path: Path, few: Dataset) -> None:
    path = linear(tmp_path / "q.onnx", ("n", 3, 32, 32), TensorProto.INT8, extra=(DEQUANTISE,))
    scored = scoring.score_file(path, few, Preprocessing(), None, 1)
    raw = bare_onnx(path, lambda x: (x.astype(np.int16) - 128).astype(np.int8).transpose(0, 3, 1, 2), few.x_test)
    np.testing.assert_array_equal(scored.probabilities, softmax(raw))


def test_a_batch_that_does_not_divide_the_images_loses_none(tmp_path: Path, few: Dataset) -> None:
    fixed = linear(tmp_path / "fixed.onnx", (7, 32, 32, 3), TensorProto.UINT8)
    free = linear(tmp_path / "free.onnx", ("n", 32, 32, 3), TensorProto.UINT8)
    both = [scoring.score_file(path, few, Preprocessing(), None, 1).probabilities for path in (fixed, free)]
    np.testing.assert_allclose(*both, atol=1e-6)
    assert len(both[0]) == 250


@pytest.fixture(scope="module")
def trained() -> Any:
    """A small Keras model of another hand: floats from 0 to 1 in, logits out."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(4, 5, strides=4, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_tflite_file_with_quantised_ends_is_scored_as_by_a_bare_loop(
    tmp_path: Path, few: Dataset, trained: Any, dtype: str
) -> None:
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    trained.export(str(tmp_path / "saved"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None].astype("f4") / 255] for image in few.x_train[:50])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(dtype)
    (tmp_path / "m.tflite").write_bytes(converter.convert())

    interpreter = Interpreter(str(tmp_path / "m.tflite"))
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for image in few.x_test:
        scale, zero = taken["quantization"]
        limits = np.iinfo(taken["dtype"])
        elements = np.clip(
            np.round(image[None].astype("f4") / np.float32(255) / scale + zero), limits.min, limits.max
        )
        interpreter.set_tensor(taken["index"], elements.astype(taken["dtype"]))
        interpreter.invoke()
        scale, zero = given["quantization"]
        rows.append(np.float32(scale) * (interpreter.get_tensor(given["index"])[0].astype("f4") - zero))
    scored = scoring.score_file(tmp_path / "m.tflite", few, Preprocessing(), None, 1)
    assert scored.outputs == "logits"
    np.testing.assert_array_equal(scored.probabilities.argmax(axis=1), np.stack(rows).argmax(axis=1))
    np.testing.assert_allclose(scored.probabilities, softmax(np.stack(rows)), atol=1e-6)


def test_a_saved_model_with_other_names_is_scored_as_by_a_bare_loop(tmp_path: Path, few: Dataset) -> None:
    import tensorflow as tf

    matrix = tf.constant(weights(3))

    class Other(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 3, 32, 32), tf.float32, name="bild")])
        def klassen(self, bild: Any) -> dict[str, Any]:
            flat = tf.reshape(bild, (-1, 3072))
            return {"features": flat[:, :7], "wertung": tf.nn.softmax(flat @ matrix)}

    other = Other()
    tf.saved_model.save(other, str(tmp_path / "m"), signatures={"vorhersage": other.klassen})
    scored = scoring.score_file(tmp_path / "m", few, Preprocessing("0..1"), None, 2)
    images = (few.x_test.astype("f4") / np.float32(255)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(scored.probabilities, other.klassen(tf.constant(images))["wertung"].numpy())
    assert (scored.outputs, scored.entry) == ("probabilities", None)


def test_our_own_exports_are_verified_and_a_changed_one_refused(
    exported: Path, small: Dataset, tmp_path: Path
) -> None:
    (path,) = exported.glob("*none-s0.onnx")
    scored = scoring.score_file(path, small, Preprocessing(), None, 1)
    assert scored.entry
    assert classification.sha256(scored.probabilities) == scored.entry.outputs_sha256
    copied = tmp_path / path.name
    copied.write_bytes(path.read_bytes() + b" ")
    (tmp_path / "manifest.json").write_bytes((exported / "manifest.json").read_bytes())
    with pytest.raises(UsageError, match="SHA-256 differs"):
        scoring.score_file(copied, small, Preprocessing(), None, 1)


def test_another_class_order_is_put_right(tmp_path: Path, few: Dataset) -> None:
    path = linear(tmp_path / "m.onnx", ("n", 32, 32, 3), TensorProto.UINT8, "Softmax")
    order = list(reversed(few.class_names))
    plain = scoring.score_file(path, few, Preprocessing(), None, 1).probabilities
    turned = scoring.score_file(path, few, Preprocessing(), order, 1).probabilities
    np.testing.assert_array_equal(turned, plain[:, ::-1])
    (tmp_path / "labels.txt").write_text("\n".join(order))
    assert (
        scoring.parse_class_order(str(tmp_path / "labels.txt")) == scoring.parse_class_order(",".join(order)) == order
    )
    for wrong in (order[:9], ["cat"] * 10):
        with pytest.raises(UsageError, match="in some order, found"):
            scoring.score_file(path, few, Preprocessing(), wrong, 1)


@pytest.mark.parametrize(
    ("file", "preprocessing", "message"),
    [
        ({"shape": ("n", 32, 32, 3)}, Preprocessing(), "float32, and how it scales pixels is not in it"),
        ({"shape": ("n", 28, 28, 3)}, Preprocessing("0..1"), r"is \(N, 28, 28, 3\), neither"),
        ({"shape": ("n", 3072)}, Preprocessing("0..1"), r"is \(N, 3072\), neither"),
        ({"shape": ("n", 32, 32, 3), "classes": 11}, Preprocessing("0..1"), r"is \(N, 11\), not \(N, 10\)"),
        ({"shape": ("n", 32, 32, 3), "kind": TensorProto.UINT8}, Preprocessing("0..1"), "takes bytes as they are"),
        ({"shape": ("n", 32, 32, 3), "kind": TensorProto.INT8}, Preprocessing(), "no scale and zero point"),
        ({"shape": ("n", 32, 32, 3), "kind": TensorProto.INT32}, Preprocessing(), "is int32; float, uint8 and int8"),
    ],
)
def test_what_does_not_fit_gets_one_clear_line(
    tmp_path: Path, few: Dataset, file: dict[str, Any], preprocessing: Preprocessing, message: str
) -> None:
    path = linear(tmp_path / "m.onnx", **file)
    with pytest.raises(UsageError, match=message) as caught:
        scoring.score_file(path, few, preprocessing, None, 1)
    assert isinstance(caught.value, PreprocessingNeededError) == ("how it scales" in message)
    assert "\n" not in str(caught.value)


def test_outputs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InferenceError, match="not a number"):
        scoring.as_probabilities(np.full((2, 10), np.nan, np.float32))


@given(st.lists(st.lists(st.floats(-30, 30, width=32), min_size=10, max_size=10), min_size=1, max_size=5))
def test_logits_keep_their_order_and_become_probabilities(rows: list[list[float]]) -> None:
    raw = np.array(rows, np.float32)
    kind, made = scoring.as_probabilities(raw)
    assert scoring.as_probabilities(softmax(raw))[0] == "probabilities"
    if kind == "logits":
        np.testing.assert_allclose(made.sum(axis=1), 1, atol=1e-5)
        assert (made[np.arange(len(raw)), raw.argmax(axis=1)] == made.max(axis=1)).all()


@given(st.sampled_from(["0..1", "0..255"]), st.sampled_from(["int8", "uint8"]))
def test_a_quantised_input_that_covers_a_range_takes_every_byte_to_its_own_element(name: str, dtype: str) -> None:
    low, high = RANGES[name].low, RANGES[name].high
    scale = (high - low) / 255
    tensor = Tensor("x", np.dtype(dtype), (1, 32, 32, 3), scale, round(np.iinfo(dtype).min - low / scale))
    bytes_ = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    elements = tensor.quantise(Preprocessing(name)(bytes_))
    assert len(np.unique(elements)) == 256
    np.testing.assert_allclose(tensor.dequantise(elements), Preprocessing(name)(bytes_), atol=0.51 * scale)


def test_the_command_line(cifar: Command, tmp_path: Path) -> None:
    data = dataset.draw_synthetic()
    path = linear(tmp_path / "theirs.onnx", ("n", 3, 32, 32))
    asked = cifar("evaluate", path, "--data", "synthetic")
    assert asked.code == 2
    assert len(asked.err.strip().splitlines()) == 1
    for name in RANGES:
        assert f"--input-range={name}: " in asked.err
    images = data.x_train[:500].transpose(0, 3, 1, 2).astype("f4") / np.float32(255)
    right = (bare_onnx(path, lambda x: x, images).argmax(axis=1) == data.y_train[:500]).mean()  # type: ignore[arg-type]
    assert f"--input-range=0..1: {right:.1%}" in asked.err
    output = cifar(
        "evaluate", path, "--data", "synthetic", "--mean", "0.49,0.48,0.45", "--std", "0.25,0.24,0.26", "--json"
    )
    expected = softmax(bare_onnx(path, standardised, data.x_test))
    assert output.json["correct"] == int((expected.argmax(axis=1) == data.y_test).sum())
    assert output.json["n_test"] == 1000
    assert output.json["accuracy"] == output.json["correct"] / 1000
    assert output.json["probabilities_sha256"] == classification.sha256(expected)
    assert output.json["checksum_verified"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("m.onnx", "--input-range", "0-1"), "Did you mean"),
        (("m.onnx", "--mean", "1,2,3"), "go together"),
        (("m.onnx", "--mean", "1,2", "--std", "1,2,3"), "expected three numbers"),
        (("m.onnx", "--mean", "1,2,3", "--std", "1,0,3"), "expected three numbers"),
        (("m.onnx", "--input-range", "0..1", "--mean", "1,2,3"), "goes without"),
        (("m.txt",), "neither a run folder"),
        (("absent.onnx",), "no such file"),
        (("m.onnx", "--data", "synthetic", "--labels", "cat"), "neither ten names"),
        (("m.onnx", "--data", "imagenet"), "There is no data set 'imagenet'"),
    ],
)
def test_a_request_that_cannot_be_met_is_2(
    cifar: Command, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    for name in ("m.onnx", "m.txt"):
        (tmp_path / name).write_text(json.dumps({}))
    output = cifar("evaluate", *arguments)
    assert output.code == 2, output.err
    assert words in output.err
