import math
from pathlib import Path

import keras
import numpy as np
import pytest

from cifar import networks
from cifar.benchmark import grid
from cifar.errors import UsageError
from cifar.recipes import PUBLISHED, read

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
# By hand: positions x kernel x channels before x after, of the convolutions and the head.
RESNET8_MULTIPLY_ADDS = (
    *(32**2 * 9 * (3 * 16 + 16 * 16 + 16 * 16), 16**2 * (9 * (16 * 32 + 32 * 32) + 16 * 32)),
    *(8**2 * (9 * (32 * 64 + 64 * 64) + 32 * 64), 64 * 10),
)
AIRBENCH94_MULTIPLY_ADDS = (
    *(31**2 * 4 * 3 * 24, 9 * (31**2 * 24 * 64 + 15**2 * 64 * 64)),
    *(9 * (15**2 * 64 * 256 + 7**2 * 256 * 256), 9 * (7**2 + 3**2) * 256 * 256, 256 * 10),
)
AIRBENCH94_PARAMETERS = 1_973_944
EVERY_BYTE = np.resize(np.arange(256, dtype=np.uint8), (1, 32, 32, 3))


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


def test_the_published_networks_are_the_ones_trained_where_none_is_named() -> None:
    assert tuple(PARAMETERS) == networks.PUBLISHED
    assert list(networks.PUBLISHED) == read(PUBLISHED).networks
    measured = {rows.network for rows in grid.FULL.training if rows.precision == "float32"}
    assert measured == {*networks.PUBLISHED, "airbench94"}


def test_resnet8_is_that_of_mlperf_tiny() -> None:
    model = networks.build("resnet8")
    assert model.count_params() == 78_666
    assert networks.multiply_adds(model) == sum(RESNET8_MULTIPLY_ADDS) == 12_501_632
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    shapes = [(layer.output.shape[1], layer.filters, layer.kernel_size[0]) for layer in convolutions]
    assert sorted(shapes) == sorted(
        [*[(32, 16, 3)] * 3, (16, 32, 1), *[(16, 32, 3)] * 2, (8, 64, 1), *[(8, 64, 3)] * 2]
    )
    assert {float(layer.kernel_regularizer.l2) for layer in convolutions} == {1e-4}
    assert {type(layer.kernel_initializer) for layer in convolutions} == {keras.initializers.HeNormal}
    assert all(layer.use_bias for layer in convolutions)
    head = model.layers[-1]
    assert head.kernel_regularizer is None
    assert len(model.losses) == len(convolutions) == 9
    assert len([layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]) == 7


def test_resnet8_takes_bytes_unscaled() -> None:
    model = networks.build("resnet8")
    pixels = keras.Model(model.inputs, model.get_layer("conv0").input).predict_on_batch(EVERY_BYTE)
    assert np.array_equal(pixels, EVERY_BYTE.astype(np.float32))


def test_airbench94_has_the_shapes_of_its_text() -> None:
    model = networks.build_with_fresh_names("airbench94")
    assert model.count_params() == AIRBENCH94_PARAMETERS
    assert networks.multiply_adds(model) == sum(AIRBENCH94_MULTIPLY_ADDS) == 118_147_360
    shapes = [layer.output.shape[1:] for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert shapes == [(31, 31, 24), (31, 31, 64), (15, 15, 64), (15, 15, 256), (7, 7, 256), (7, 7, 256), (3, 3, 256)]
    biased = [layer.name for layer in model.layers if getattr(layer, "bias", None) is not None]
    assert biased == ["whiten"]
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.scale, layer.center, layer.momentum, layer.epsilon) == (False, True, 0.6, 1e-12)
            assert layer.name.startswith("norm")
    assert {weight.path for weight in model.weights} >= {"airbench94/whiten/bias", "airbench94/norm1a/beta"}
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "MaxPooling2D", *["BatchNormalization", "Activation", "Conv2D"], "BatchNormalization"]
    assert kinds[3:9] == block
    assert kinds[-5:] == ["MaxPooling2D", "Flatten", "Dense", "Rescaling", "Softmax"]


def test_airbench94_normalises_bytes_and_its_gelu_is_exact() -> None:
    model = networks.build("airbench94")
    normalised = keras.Model(model.inputs, model.get_layer("whiten").input).predict_on_batch(EVERY_BYTE)
    expected = (EVERY_BYTE / 255 - (0.4914, 0.4822, 0.4465)) / (0.2470, 0.2435, 0.2616)
    np.testing.assert_allclose(normalised, expected, atol=2e-6)
    values = np.linspace(-4, 4, 101, dtype=np.float32)
    exact = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in values.tolist()]
    np.testing.assert_allclose(model.get_layer("gelu1a")(values), exact, atol=1e-6)


def test_airbench94_passes_channels_on_at_first_and_draws_the_rest_as_pytorch_does() -> None:
    keras.utils.set_random_seed(0)
    model = networks.build_with_fresh_names("airbench94")
    images = np.random.default_rng(0).normal(size=(2, 9, 9, 256)).astype(np.float32)
    for layer in model.layers:
        if not layer.name.startswith("conv"):
            continue
        inputs, outputs = layer.kernel.shape[2:]
        n = min(inputs, outputs)
        assert np.array_equal(layer(images[..., :inputs])[..., :n], images[..., :n])
        drawn = layer.kernel.numpy()[..., n:]
        if drawn.size:
            bound = 1 / math.sqrt(9 * inputs)
            assert np.abs(drawn).max() <= bound
            assert drawn.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    head = model.get_layer("head").kernel.numpy()
    assert 0.95 / 16 < np.abs(head).max() <= 1 / 16
    keras.utils.set_random_seed(0)
    assert networks.weights_sha256(networks.build_with_fresh_names("airbench94")) == networks.weights_sha256(model)


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
