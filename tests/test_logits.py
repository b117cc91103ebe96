"""What int8 quantises: centred logits in a chosen range, their mean error taken out of the bias."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import layers
from numpy.typing import NDArray

from cifar import networks
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.formats import FORMATS, Source, logits, tflite_int8
from cifar.formats.logits import Logits, NotCentred
from cifar.inference import isolated_prediction
from cifar.inference.runtimes import litert

INT8 = ("onnx-int8", "tflite-int8")
ROWS = arrays(np.float32, (20, 10), elements=st.floats(-500, 500, width=32))


def ending(*end: Any) -> Any:
    """A small network with random weights, among them those of the bias."""
    keras.utils.set_random_seed(0)
    start = [layers.Rescaling(1 / 255), layers.Conv2D(8, 3, strides=2, activation="relu")]
    model = keras.Sequential([keras.Input((32, 32, 3), dtype="uint8"), *start, *end])
    drifted(model, 0.1)
    return model


def drifted(model: Any, size: float) -> None:
    """Add random numbers to the biases."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(layer.bias + size * rng.normal(size=layer.bias.shape))


def pooled_head(**options: Any) -> list[Any]:
    return [layers.Conv2D(10, 1, **options), layers.GlobalAveragePooling2D(), layers.Softmax()]


HEADS: dict[str, Callable[[], list[Any]]] = {  # new layers each time: a layer keeps its weights
    "softmax of the layer": lambda: [layers.Flatten(), layers.Dense(10, activation="softmax")],
    "softmax layer": lambda: [layers.Flatten(), layers.Dense(10), layers.Softmax()],
    "activation layer": lambda: [layers.Flatten(), layers.Dense(10), layers.Activation("softmax")],
    "no bias": lambda: [layers.Flatten(), layers.Dense(10, use_bias=False, activation="softmax")],
    "scale": lambda: [layers.Flatten(), layers.Dense(10), layers.Rescaling(0.3), layers.Softmax()],
    "global pooling": pooled_head,
    "global pooling without bias": partial(pooled_head, use_bias=False),
}


def check_centred(model: Any, images: NDArray[np.uint8]) -> Logits:
    found = logits.centred(model, images)
    assert isinstance(found, Logits)
    np.testing.assert_allclose(found.model.predict(images, verbose=0).mean(axis=1), 0, atol=1e-4)
    probabilities = logits.output_model(found).predict(images, verbose=0)
    np.testing.assert_allclose(probabilities, model.predict(images, verbose=0), rtol=0, atol=1e-6)
    return found


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_centring_keeps_the_probabilities_of_every_network(small: Dataset, name: str) -> None:
    keras.utils.set_random_seed(0)
    model = networks.build(name)
    check_centred(model, small.x_train[:50] // 64)  # pixels of 0 to 3: resnet8 does not scale them


@pytest.mark.parametrize("head", HEADS)
def test_centring_keeps_the_probabilities_of_a_users_network(small: Dataset, head: str) -> None:
    found = check_centred(ending(*HEADS[head]()), small.x_train[:50])
    assert (found.range is None) == ("pooling" in head)


def test_the_model_itself_is_left_alone(small: Dataset) -> None:
    model = ending(*HEADS["softmax of the layer"]())
    before = networks.weights_sha256(model)
    found = logits.centred(model, small.x_train[:50])
    assert isinstance(found, Logits)
    logits.without_mean_error(found, np.ones((50, 10), np.float32))
    assert networks.weights_sha256(model) == before
    assert model.layers[-1].activation is keras.activations.softmax


class Subclass(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(10, activation="softmax")

    def call(self, images: Any) -> Any:
        return self.dense(keras.ops.cast(keras.ops.mean(images, axis=(1, 2)), "float32") / 255)


REFUSED = {
    "logits as output": (lambda: ending(layers.Flatten(), layers.Dense(10)), "its last layer is no softmax"),
    "sigmoid": (
        lambda: ending(layers.Flatten(), layers.Dense(10, activation="sigmoid")),
        "its last layer is no softmax",
    ),
    "something between": (
        lambda: ending(layers.Flatten(), layers.Dense(10, activation="relu"), layers.Softmax()),
        "more than a scale and pooling",
    ),
    "no kernel per class": (
        lambda: ending(layers.Conv2D(40, 1), layers.Reshape((-1, 10)), layers.GlobalMaxPooling1D(), layers.Softmax()),
        "its last kernel does not give a number per class",
    ),
    "subclass": (Subclass, "its last layer is no softmax"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_where_centring_does_not_apply_it_says_why(small: Dataset, case: str) -> None:
    make, reason = REFUSED[case]
    model = make()
    model(small.x_train[:1])
    found = logits.centred(model, small.x_train[:50])
    assert isinstance(found, NotCentred)
    assert reason in found.reason


@settings(deadline=None, max_examples=200)
@given(ROWS)
def test_the_chosen_range_agrees_with_at_least_as_many_rows_as_the_extremes(rows: NDArray[np.float32]) -> None:
    lowest, highest = logits.choose_range(rows)
    extremes = min(rows.min(), 0.0), max(rows.max(), 0.0)
    assert extremes[0] <= lowest <= 0 <= highest <= extremes[1]
    assert logits.agreement(rows, lowest, highest) >= logits.agreement(rows, *map(float, extremes))


@settings(deadline=None, max_examples=100)
@given(arrays(np.int64, (20, 10), elements=st.integers(0, 255)), st.floats(0.01, 10))
def test_what_8_bits_can_tell_apart_agrees(steps: NDArray[np.int64], size: float) -> None:
    rows = (steps - 100).astype(np.float32) * np.float32(size)
    assert logits.agreement(rows, -100 * size, 155 * size) == 1.0


def test_a_long_tail_of_the_losers_does_not_choose_the_range() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 2, (1000, 10)).astype(np.float32)
    rows[::20, 3] = -700
    lowest, highest = logits.choose_range(rows)
    assert lowest >= -60
    assert highest == rows.max()
    assert logits.agreement(rows, lowest, highest) > 0.97 > logits.agreement(rows, -700, highest)


def test_the_mean_error_is_taken_out_of_the_bias_where_the_range_does_not_clip(small: Dataset) -> None:
    model = ending(*HEADS["softmax of the layer"]())
    found = logits.centred(model, small.x_train[:100])
    assert isinstance(found, Logits)
    exact = found.model.predict(small.x_train[:100], verbose=0)
    error = np.linspace(-0.5, 0.5, 10, dtype=np.float32)
    np.testing.assert_allclose(found.values, exact, atol=1e-5)
    corrected = logits.without_mean_error(found, exact + error)
    np.testing.assert_allclose(corrected.model.predict(small.x_train[:100], verbose=0), exact - error, atol=1e-4)
    clipping = replace(found, range=(-1e-6, 1e-6))  # nothing lies inside
    unchanged = logits.without_mean_error(clipping, exact + error)
    np.testing.assert_allclose(unchanged.model.predict(small.x_train[:100], verbose=0), exact, atol=1e-5)


def int8_agreement(name: str, model: Any, images: NDArray[np.uint8], folder: Path, *, centre: bool) -> float:
    """Share of images with the same class as the Keras model, in the format's own runtime."""
    found = logits.centred(model, images) if centre else None
    path = folder / f"model-{centre}{FORMATS[name].suffix}"
    FORMATS[name].module.write(Source(model, {}, images[:200], found), path)
    predicted = isolated_prediction.predict_file(name, path, images, 2)
    return float((predicted.argmax(axis=1) == model.predict(images, verbose=0).argmax(axis=1)).mean())


@pytest.mark.parametrize("name", INT8)
def test_logits_that_have_drifted_keep_their_classes(small: Dataset, tmp_path: Path, name: str) -> None:
    model = ending(*HEADS["softmax of the layer"]())
    layer = model.layers[-1]
    layer.bias.assign(layer.bias - 300)
    images = small.x_train[:300]
    assert int8_agreement(name, model, images, tmp_path, centre=False) < 0.85
    assert int8_agreement(name, model, images, tmp_path, centre=True) > 0.92


def matrices(path: Path) -> dict[str, bool]:
    """By layer, whether the multiplication by its kernel takes quantised numbers."""
    graph = onnx.load(str(path)).graph
    producer = {output: node.op_type for node in graph.node for output in node.output}
    found = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            found[node.name.split("/")[1]] = producer.get(node.input[1]) == "DequantizeLinear"
    return found


@pytest.mark.parametrize("head", ["softmax of the layer", "no bias", "global pooling"])
def test_a_layer_kept_in_float_is_not_quantised_and_the_others_are(small: Dataset, tmp_path: Path, head: str) -> None:
    model = ending(*HEADS[head]())
    first, last = [layer.name for layer in model.layers if getattr(layer, "kernel", None) is not None]
    found = logits.centred(model, small.x_train[:100])
    assert isinstance(found, Logits)
    assert found.layer == last
    source = Source(model, {}, small.x_train[:100], replace(found, range=None), keep_float=[last])
    FORMATS["onnx-int8"].module.write(source, tmp_path / "kept.onnx")
    assert matrices(tmp_path / "kept.onnx") == {f"{first}_1": True, f"{last}_1": False}
    predicted = isolated_prediction.predict_file("onnx-int8", tmp_path / "kept.onnx", small.x_train[:100], 2)
    np.testing.assert_allclose(predicted, model.predict(small.x_train[:100], verbose=0), atol=0.05)


def test_a_layer_that_is_not_there_cannot_be_kept_in_float(small: Dataset, tmp_path: Path) -> None:
    model = ending(layers.Flatten(), layers.Dense(10, activation="softmax", name="scores"))
    source = Source(model, {}, small.x_train[:10], keep_float=["score"])
    with pytest.raises(
        UsageError, match=r"no layer with a kernel called 'score'. Did you mean 'scores'\? Valid: conv2d"
    ):
        FORMATS["onnx-int8"].module.write(source, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_tflite_int8_averages_a_whole_image_in_a_range_of_its_own(small: Dataset, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(4, 3, strides=2, activation="relu"), layers.AveragePooling2D(15), layers.Flatten()]
    model = keras.Sequential(
        [keras.Input((32, 32, 3), dtype="uint8"), *stack, layers.Dense(10, activation="softmax")]
    )
    tflite_int8.write(Source(model, {}, small.x_train[:50]), tmp_path / "averages.tflite")
    session = litert.Session(tmp_path / "averages.tflite", 1, "cpu", keep_tensors=True)
    session(small.x_test[:1])
    scales = {elements.shape: tensor.scale for tensor, elements in session.activations().values()}
    assert scales[1, 1, 1, 4] < 0.9 * scales[1, 15, 15, 4]
