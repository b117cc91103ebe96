"""CIFAR-10 as Hugging Face keeps it in its cache: `uoft-cs/cifar10`, parquet files of PNG images and labels.

No digest of the published pixels is known, only of the published files, and these hold more than pixels. So such a
copy cannot be checked: it is never the published one, and it is used only where the user names it.
"""

import importlib
import io
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.data import archive
from cifar.data.archive import Arrays
from cifar.errors import DataError, first_line, printable

REPOSITORY = "datasets--uoft-cs--cifar10"
CONFIGURATION = "plain_text"  # the folder of the files in a snapshot
COLUMNS = ["img", "label"]
SPLITS = {"train": 50_000, "test": 10_000}  # images
MAX_BYTES = 512 << 20  # of a file, unpacked; the published images have 184 MB


def cached_copies() -> list[Path]:
    """Return the folders of parquet files in Hugging Face's cache."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    home = Path(os.environ.get("HF_HOME", caches / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return copies_in(hub / REPOSITORY)


def copies_in(place: Path) -> list[Path]:
    """Return the folders with both splits at a place: a folder of parquet files, or a repository of the cache."""
    candidates = [place, place / CONFIGURATION, *sorted(place.glob(f"snapshots/*/{CONFIGURATION}"))]
    return [folder for folder in candidates if is_copy(folder)]


def is_copy(folder: Path) -> bool:
    """Whether a folder holds parquet files of both splits."""
    return all(_files(folder, split) for split in SPLITS)


def _files(folder: Path, split: str) -> list[Path]:
    return sorted(folder.glob(f"{split}-*.parquet"))


def is_readable() -> bool:
    """Whether pyarrow, which is no dependency of this project, is installed."""
    return find_spec("pyarrow") is not None


def read(folder: Path) -> tuple[Arrays, Arrays]:
    """Read images and labels, in the order of the files.

    Returns:
        (images, labels) of training and of test, uint8 of shapes (N, 32, 32, 3) and (N,).

    Raises:
        DataError: pyarrow is not installed, or a file is damaged or not of CIFAR-10.
    """
    if not is_readable():
        raise DataError(f"{folder}: parquet files are read by pyarrow, which is not installed: pip install pyarrow.")
    arrays = []
    for split, number in SPLITS.items():
        images, labels = [], []
        for path in _files(folder, split):
            for row in _rows(path, number):
                images.append(_decode(row, path))
                labels.append(_label(row, path))
        if len(images) != number:
            raise DataError(f"{folder}: expected {number} {split} images, found {len(images)}.")
        split_labels = np.array(labels, np.uint8)
        archive.check_class_counts(split_labels, split, folder)
        arrays.append((np.stack(images), split_labels))
    train, test = arrays
    return train, test


def _rows(path: Path, max_rows: int) -> list[dict[str, Any]]:
    """The rows of a parquet file, which is not unpacked if it claims to be too large."""
    try:
        file = importlib.import_module("pyarrow.parquet").ParquetFile(path)
        groups = range(file.metadata.num_row_groups)
        unpacked_bytes = sum(file.metadata.row_group(index).total_byte_size for index in groups)
        if file.metadata.num_rows > max_rows or unpacked_bytes > MAX_BYTES:
            raise ValueError(f"{file.metadata.num_rows:,} rows of {unpacked_bytes:,} bytes are too many")
        rows: list[dict[str, Any]] = file.read(columns=COLUMNS).to_pylist()
    except Exception as error:  # a damaged file raises many kinds
        raise DataError(f"{path}: not readable: {printable(first_line(error))}") from error
    return rows


def _decode(row: dict[str, Any], path: Path) -> NDArray[np.uint8]:
    """The pixels (32, 32, 3) of a row's PNG."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(row["img"]["bytes"]), formats=["PNG"]) as picture:
            if (picture.size, picture.mode) != ((32, 32), "RGB"):
                raise ValueError(f"a picture of {picture.size}, {picture.mode}")
            return np.asarray(picture, np.uint8)
    except Exception as error:  # a damaged picture raises many kinds
        raise DataError(f"{path}: expected PNG images of 32x32 RGB: {printable(first_line(error))}") from error


def _label(row: dict[str, Any], path: Path) -> int:
    label = row.get("label")
    if type(label) is not int or not 0 <= label < len(archive.CLASS_NAMES):
        raise DataError(f"{path}: expected labels from 0 to 9.")
    return label
