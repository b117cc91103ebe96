"""Small lossy copies of test images for the page: sheets of many, as data URIs."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # pixels of an image along each axis
COLUMNS = 32  # images side by side in a sheet
PER_SHEET = 1024
QUALITY = 55  # of WebP, 0 to 100
MAX_PICTURES = 10_000  # about four megabytes


@dataclass(frozen=True)
class Pictures:
    """Pictures of some test images.

    Attributes:
        indices: of the images, in the order of the sheets: row by row, sheet after sheet.
        sheets: data URIs of WebP pictures, each of up to PER_SHEET images, COLUMNS side by side.
        wanted: how many images there should be pictures of.
    """

    indices: list[int]
    sheets: list[str]
    wanted: int


def draw(images: NDArray[np.uint8], wanted: NDArray[np.int64]) -> Pictures:
    """Return pictures of the first MAX_PICTURES wanted images.

    Args:
        images: uint8 (N, 32, 32, 3).
        wanted: indices, int64.
    """
    shown = wanted[:MAX_PICTURES]
    sheets = []
    for start in range(0, len(shown), PER_SHEET):
        sheets.append(_data_uri(_sheet(images[shown[start : start + PER_SHEET]])))
    return Pictures(shown.tolist(), sheets, len(wanted))


def _sheet(images: NDArray[np.uint8]) -> Image.Image:
    rows = -(-len(images) // COLUMNS)
    padded = np.zeros((rows * COLUMNS, SIDE, SIDE, 3), np.uint8)
    padded[: len(images)] = images
    grid = padded.reshape(rows, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
    return Image.fromarray(grid.reshape(rows * SIDE, COLUMNS * SIDE, 3))


def _data_uri(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
