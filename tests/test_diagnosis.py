"""`cifar diagnose`: what is planted in an int8 file is named, and what cannot be diagnosed is said in a sentence."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from conftest import ROOT, Command
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import layers
from numpy.typing import NDArray

from cifar.data.dataset import Dataset, draw_synthetic
from cifar.diagnosis import finding, isolated, onnx_file, signal
from cifar.diagnosis.schemas import Diagnosis
from cifar.formats import FORMATS, Source
from cifar.inference.preprocessing import Preprocessing

OLD = ROOT / "tests" / "fixtures" / "second-before-centring.int8.onnx"
TWIN = ROOT / "tests" / "fixtures" / "second-float32.onnx"
TFLITE = ROOT / "exports" / "second-tuned-bfloat16-shift-flip-s0.tflite"
OUTLIER = 3000.0


def network() -> Any:
    """Two convolutions and a dense layer with random weights."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="early"),
            layers.Conv2D(16, 3, strides=2, activation="relu", name="late"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="head"),
        ],
        name="planted",
    )


def with_outlier() -> Any:
    """The network, equal in its probabilities, with one channel of `early` thousands of times larger."""
    model = network()
    kernel, bias = model.get_layer("early").get_weights()
    kernel[..., 0] *= OUTLIER
    bias[0] *= OUTLIER
    model.get_layer("early").set_weights([kernel, bias])
    kernel, bias = model.get_layer("late").get_weights()
    kernel[:, :, 0] /= OUTLIER
    model.get_layer("late").set_weights([kernel, bias])
    return model


def with_drifted_logits() -> Any:
    model = network()
    model.layers[-1].bias.assign(np.full(10, -300.0))
    return model


def with_coarse_kernel() -> Any:
    """The network, whose `late` has a large weight for an input that is always 0: the others have few integers."""
    model = network()
    kernel, bias = model.get_layer("early").get_weights()
    kernel[..., 0], bias[0] = 0, -1
    model.get_layer("early").set_weights([kernel, bias])
    kernel, bias = model.get_layer("late").get_weights()
    kernel[:, :, 0] = 40 * np.abs(kernel).max()
    model.get_layer("late").set_weights([kernel, bias])
    return model


def write_pair(model: Any, name: str, data: Dataset, folder: Path) -> tuple[Path, Path]:
    """Write an int8 file, its logits left as they are, and its float twin."""
    pair = folder / f"planted{FORMATS[f'{name}-int8'].suffix}", folder / f"planted{FORMATS[name].suffix}"
    for format_name, path in zip((f"{name}-int8", name), pair, strict=True):
        FORMATS[format_name].module.write(Source(model, {}, data.x_train[:200]), path)
    return pair


def diagnose(pair: tuple[Path, Path], images: NDArray[np.uint8]) -> Diagnosis:
    numbers_of_steps: list[int] = []
    diagnosis = isolated.diagnose(*pair, images, Preprocessing(), numbers_of_steps.append)
    assert all(number == len(numbers_of_steps) for number in numbers_of_steps)
    return diagnosis


def test_the_logits_of_the_file_of_second_from_before_they_were_centred_are_named() -> None:
    diagnosis = diagnose((OLD, TWIN), draw_synthetic(300, 1).x_train)
    assert diagnosis.logits == "second_1/probabilities_1/BiasAdd:0"
    logits = diagnosis.tensors[-1]
    assert (logits.name, logits.step) == (diagnosis.logits, pytest.approx(2.77, abs=0.01))
    assert logits.agreement_without is not None
    assert logits.agreement_without > diagnosis.agreement + 0.1
    sentence = finding.describe(diagnosis)
    assert sentence.startswith("Most is lost at second_1/probabilities_1/BiasAdd:0:")
    assert "These are the logits: `cifar export` centres them" in sentence


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_drifted_logits_are_named(small: Dataset, tmp_path: Path, name: str) -> None:
    diagnosis = diagnose(write_pair(with_drifted_logits(), name, small, tmp_path), small.x_train[:200])
    assert diagnosis.agreement < 0.7
    assert diagnosis.close is not None
    assert diagnosis.close > 0.1
    assert "These are the logits" in finding.describe(diagnosis)


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_a_channel_that_is_far_larger_than_the_others_is_named(small: Dataset, tmp_path: Path, name: str) -> None:
    diagnosis = diagnose(write_pair(with_outlier(), name, small, tmp_path), small.x_train[:200])
    assert diagnosis.agreement < 0.9
    sentence = finding.describe(diagnosis)
    worst = sentence.split(": with it in float")[0] if name == "onnx" else sentence.split(" dB")[0]
    assert "early" in worst or "late" in worst, sentence


def test_weights_that_have_few_integers_are_named(small: Dataset, tmp_path: Path) -> None:
    diagnosis = diagnose(write_pair(with_coarse_kernel(), "onnx", small, tmp_path), small.x_train[:200])
    assert diagnosis.agreement < 0.9
    early, late, head = diagnosis.weights
    assert late.agreement_without > diagnosis.agreement + 0.05
    assert late.agreement_without > max(early.agreement_without, head.agreement_without)
    assert finding.describe(diagnosis).startswith(f"Most is lost by the weights of {late.name}: with them in float")
    assert "late" in late.name


def test_a_file_that_decides_as_its_float_file_is_said_so(small: Dataset, tmp_path: Path) -> None:
    _, twin = write_pair(network(), "onnx", small, tmp_path)
    pair = write_pair(network(), "onnx", small, tmp_path)
    diagnosis = diagnose(pair, small.x_train[:200])
    assert twin == pair[1]
    if diagnosis.agreement > 1 - finding.MIN_GAIN:
        assert finding.describe(diagnosis) == "The int8 file decides as its float file does."
    assert diagnosis.agreement_of_weights is not None
    assert diagnosis.agreement_of_weights > 0.9


def test_without_any_quantiser_the_weights_alone_are_rounded(small: Dataset, tmp_path: Path) -> None:
    path, _ = write_pair(network(), "onnx", small, tmp_path)
    proto = onnx.load(str(path))
    quantizers = onnx_file.find_quantizers(proto)
    off = onnx_file.switched_off(proto, quantizers)
    onnx.checker.check_model(off, full_check=True)
    assert not onnx_file.find_quantizers(off)
    assert len(onnx_file.find_quantizers(proto)) == len(quantizers) > 3  # the file read is left alone
    assert "Relu" in {node.op_type for node in off.graph.node}  # a quantiser whose range starts at 0 stands for one


@settings(deadline=None, max_examples=100)
@given(arrays(np.float64, (20, 10), elements=st.floats(-100, 100)), st.floats(0.01, 10))
def test_close_logits_are_counted(rows: NDArray[np.float64], step: float) -> None:
    best = np.sort(rows, axis=1)[:, ::-1]
    expected = np.mean([row[0] - row[1] < step for row in best])
    assert signal.share_of_close(rows, step) == pytest.approx(expected)


def test_values_half_a_step_outside_are_not_clipped() -> None:
    values = np.array([-1.04, -1.06, 0.0, 2.04, 2.06])
    assert signal.share_outside(values, -1.0, 2.0, 0.1) == pytest.approx(0.4)


def test_the_command_prints_the_finding_and_draws_it(cifar: Command, tmp_path: Path) -> None:
    words = ("diagnose", OLD, "--float", TWIN, "--data", "synthetic", "--images", "200")
    shown = cifar(*words, "--figure", "figure.png")
    assert shown.code == 0, shown.err
    assert "Most is lost at second_1/probabilities_1/BiasAdd:0" in " ".join(shown.out.split())
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    facts = cifar(*words, "--json").json
    assert facts["finding"].startswith("Most is lost at")
    assert facts["n_images"] == 200
    assert {"name", "lowest", "highest", "step", "clipped", "snr", "twin_snr"} <= facts["tensors"][0].keys()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((OLD,), "its float file is not beside it; name it with --float"),
        ((TWIN, "--float", TWIN), "it has no pairs of QuantizeLinear and DequantizeLinear"),
        ((OLD, "--float", TFLITE), "two .onnx or two .tflite files are compared"),
        ((OLD, "--float", "nowhere.onnx"), "nowhere.onnx: there is no such"),
        ((OLD, "--float", TWIN, "--figure", "figure.txt"), "expected a name that ends in .png, .svg or .pdf"),
    ],
)
def test_what_cannot_be_diagnosed_ends_in_a_sentence(cifar: Command, arguments: tuple[Any, ...], words: str) -> None:
    output = cifar("diagnose", *arguments, "--data", "synthetic", "--images", "20")
    assert output.code == 2
    assert words in " ".join(output.err.split())
    assert "Traceback" not in output.err
