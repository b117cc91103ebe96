"""`cifar predict`: pictures of any size and mode, in any of our formats and in external files."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from helpers.onnx_files import linear
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.formats import FORMATS
from cifar.inference.pictures import load_picture
from cifar.runs.run import Run

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_classes_of_the_run(
    name: str, cifar: Command, exported: Path, pair: list[Run], small: Dataset, tmp_path: Path
) -> None:
    for index in (3, 50):
        Image.fromarray(small.x_test[index]).save(tmp_path / f"{index}.png")
    path = exported / f"{pair[0].path.name}{FORMATS[name].suffix}"
    output = cifar("predict", path, "3.png", "50.png", "--top", "10", "--json")
    assert output.code == 0, output.err
    tolerance = {"float32": 1e-5, "float16": 2e-3, "int8": 0.1}[FORMATS[name].precision]
    for index, prediction in zip((3, 50), output.json["predictions"], strict=True):
        expected = dict(zip(small.class_names, pair[0].predictions()[0][index], strict=True))
        values = {entry["class"]: entry["probability"] for entry in prediction["classes"]}
        assert values == pytest.approx(expected, abs=tolerance)
        assert list(values.values()) == sorted(values.values(), reverse=True)
        assert prediction["preparation"] == "32x32 RGB: as it is"


def test_a_run_is_used_through_its_onnx_file(cifar: Command, tmp_path: Path, pair: list[Run]) -> None:
    Image.new("RGB", (64, 48), "navy").save(tmp_path / "picture.png")
    refused = cifar("predict", pair[1].path, "picture.png")
    assert (refused.code, refused.out) == (2, "")
    assert f"cifar export {pair[1].path}" in refused.err


def test_the_table_says_how_a_picture_was_changed(cifar: Command, exported: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (64, 48), (0, 0, 128, 99)).save(tmp_path / "picture.png")
    (path,) = exported.glob("*-none-s0.onnx")
    output = cifar("predict", path, "picture.png")
    assert output.code == 0, output.err
    text = " ".join(output.out.split())
    assert "picture.png: 64x48 RGBA: transparency on white, cropped to the middle 48x48, scaled to 32x32." in text


def test_an_external_file_takes_its_preprocessing_and_its_labels(cifar: Command, tmp_path: Path) -> None:
    path = linear(tmp_path / "theirs.onnx", ("n", 3, 32, 32))
    Image.new("RGB", (32, 32), "navy").save(tmp_path / "picture.png")
    refused = cifar("predict", path, "picture.png")
    assert (refused.code, refused.out) == (2, "")
    assert "--input-range" in refused.err
    labels = ",".join("abcdefghij")
    output = cifar(
        "predict", path, "picture.png", "--input-range", "0..1", "--labels", labels, "--json", "--top", "10"
    )
    assert output.code == 0, output.err
    (prediction,) = output.json["predictions"]
    assert {entry["class"] for entry in prediction["classes"]} == set("abcdefghij")
    assert sum(entry["probability"] for entry in prediction["classes"]) == pytest.approx(1, abs=1e-5)
    assert "logits" in output.err


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40), b"GIF89a" + bytes(9)])
def test_what_is_no_picture_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"picture\.png: not a readable picture: ") as caught:
        load_picture(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="No such file"):
        load_picture(tmp_path / "absent.png")
    with pytest.raises(UsageError, match="Is a directory"):
        load_picture(tmp_path)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (9_000, 9_000)).save(path)
    with pytest.raises(UsageError, match="9000x9000 pixels"):
        load_picture(path)


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(MODES))
def test_any_size_and_mode_becomes_32_by_32_bytes(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, mode: str
) -> None:
    path = tmp_path_factory.mktemp("pictures") / "picture.tiff"
    Image.new(mode, (width, height)).save(path)
    picture = load_picture(path)
    assert (picture.image.shape, picture.image.dtype) == ((32, 32, 3), np.uint8)
    assert picture.preparation.startswith(f"{width}x{height} ")
    assert ("cropped" in picture.preparation) == (width != height)
    assert ("scaled" in picture.preparation) == (min(width, height) != 32)


def test_a_picture_is_turned_upright_and_loses_its_sides(tmp_path: Path) -> None:
    """Orientation 6: the camera was turned, the first row is the right side."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    image = load_picture(tmp_path / "turned.png").image
    assert image[:16].min() == 255
    assert image[16:].max() == 0


def test_sixteen_bits_of_grey_keep_their_upper_eight(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 0x80FF, np.uint16)).save(tmp_path / "grey.png")
    assert (load_picture(tmp_path / "grey.png").image == 0x80).all()


def test_json_is_alone_on_stdout(cifar: Command, exported: Path, tmp_path: Path) -> None:
    Image.new("L", (10, 10)).save(tmp_path / "p.png")
    (path,) = exported.glob("*-none-s0.tflite")
    output = cifar("predict", path, "p.png", "--json")
    assert json.loads(output.out)["model"] == str(path)
