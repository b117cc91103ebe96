from pathlib import Path

import keras
import numpy as np
import pytest

from cifar import networks
from cifar.errors import UsageError

FIRST_SHAPES = [
    (32, 32, 32), (30, 30, 32), (15, 15, 32),
    (15, 15, 64), (13, 13, 64), (6, 6, 64),
    (6, 6, 64), (4, 4, 64), (2, 2, 64),
    (256,), (512,), (10,),
]  # fmt: skip
PARAMETERS = {
    "first": [896, 9248, 18496, 36928, 36928, 36928, 131584, 5130],
    "second": [448, 2320, 4640, 9248, 18496, 36928, 131584, 5130],
    "third": [896, 9248, 18496, 36928, 73856, 147584, 262656, 5130],
}
TOTAL = {"first": 276_138, "second": 208_794, "third": 554_794}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_layer_has_the_parameters_of_the_table(name: str) -> None:
    model = networks.build(name)
    assert [layer.count_params() for layer in model.layers if layer.count_params()] == PARAMETERS[name]
    assert model.count_params() == TOTAL[name] == networks.count_parameters(name)


def test_every_layer_of_first_has_the_shape_of_the_table() -> None:
    shapeless = keras.layers.Dropout | keras.layers.Rescaling
    layers = [layer for layer in networks.build("first").layers if not isinstance(layer, shapeless)]
    assert [layer.output.shape for layer in layers] == [(None, *shape) for shape in FIRST_SHAPES]


@pytest.mark.parametrize(("name", "filters"), [("second", (16, 32, 64)), ("third", (32, 64, 128))])
def test_the_other_networks_differ_from_first_in_their_filters_alone(name: str, filters: tuple[int, ...]) -> None:
    shapes = [layer.output.shape[1:] for layer in networks.build(name).layers if "Conv" in type(layer).__name__]
    sides = [shape[0] for shape in FIRST_SHAPES if len(shape) == 3]
    expected = [(sides[3 * i + j], sides[3 * i + j], f) for i, f in enumerate(filters) for j in (0, 1)]
    assert shapes == expected


@pytest.mark.parametrize("name", PARAMETERS)
def test_activations_padding_and_dropout_are_as_published(name: str) -> None:
    layers = networks.build(name).layers
    convolutions = [layer for layer in layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.padding for layer in convolutions] == ["same", "valid"] * 3
    assert {layer.activation.__name__ for layer in convolutions} == {"relu"}
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)] == [0.25] * 3 + [0.5]
    dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.activation.__name__ for layer in dense] == ["relu", "softmax"]


def test_a_network_takes_bytes_and_scales_them_itself() -> None:
    model = networks.build("second")
    assert model.inputs[0].dtype == "uint8"
    image = np.full((1, 32, 32, 3), 255, np.uint8)
    scaled = model.layers[0](image).numpy()
    assert scaled.dtype == np.float32
    assert scaled.max() == scaled.min() == 1.0


def test_the_digest_tells_weights_apart_and_survives_a_file(tmp_path: Path) -> None:
    model = networks.build("second")
    digest = networks.weights_sha256(model)
    model.save(tmp_path / "model.keras")
    assert networks.weights_sha256(keras.models.load_model(tmp_path / "model.keras")) == digest
    kernel = model.layers[1].kernel
    kernel.assign(kernel.numpy() + np.float32(1e-6))
    assert networks.weights_sha256(model) != digest


def test_a_label_names_a_network_and_its_filters() -> None:
    assert networks.label("first") == networks.NETWORKS["first"].label == "first (32-64-64)"
    assert networks.label("my_module:build") == "my_module:build"


@pytest.mark.usefixtures("tiny")
def test_a_users_function_is_a_network() -> None:
    assert networks.build("tinynet:build").output_shape == (None, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frist", "Did you mean 'first'?"),
        ("nosuchmodule:build", "cannot import 'nosuchmodule'"),
        ("tinynet:absent", "has no function 'absent'"),
        ("tinynet:nothing", "expected a Keras model, the function returned NoneType"),
        ("tinynet:wide", "returns (None, 11), expected (None, 10)"),
        ("tinynet:logits", "end with softmax"),
        ("tinynet:shapeless", "begin it with keras.Input"),
        ("tinynet:subclassed", "begin it with keras.Input"),
        ("tinynet:unsaveable", "the model cannot be saved"),
        ("tinynet:choosy", "cannot predict two images"),
        ("tinynet:failing", "out of ideas"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_what_is_not_a_network_is_refused_in_one_sentence(name: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        networks.build(name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
