"""NAME.top1.npz beside an exported file: what the file says of every test image, two bytes each."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.formats.manifest import ManifestEntry
from cifar.metrics.classification import CLASSES, Probabilities
from cifar.system import files
from cifar.system.npz_files import read_npz

MAX_BYTES = 1 << 28
LEVELS = 255  # of a confidence


@dataclass(frozen=True)
class Top1:
    """The most likely class of every test image.

    Attributes:
        classes: uint8 (N,).
        confidences: uint8 (N,); 255 times the probability of the class, rounded.
    """

    classes: NDArray[np.uint8]
    confidences: NDArray[np.uint8]


def of(probabilities: Probabilities) -> Top1:
    """Return the most likely classes of probabilities, float32 (N, 10), all finite."""
    confidences = np.clip(np.round(LEVELS * probabilities.max(axis=1)), 0, LEVELS)
    return Top1(probabilities.argmax(axis=1).astype(np.uint8), confidences.astype(np.uint8))


def path_of(file: Path) -> Path:
    """Return where the classes of an exported file are."""
    return file.with_name(f"{file.name}.top1.npz")


def write(file: Path, top1: Top1) -> str:
    """Write the classes of an exported file; return their file's SHA-256."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, classes=top1.classes, confidences=top1.confidences)
    files.write(path_of(file), buffer.getvalue())
    return files.sha256(path_of(file))


def read(folder: Path, entry: ManifestEntry) -> Top1 | None:
    """Return the classes of an exported file; None of one that was exported before they were kept.

    Args:
        folder: of the manifest.
        entry: of the file.

    Raises:
        UsageError: they are damaged, missing, or not those that the manifest describes.
    """
    if entry.top1_sha256 is None:
        return None
    path = path_of(folder / entry.file)
    classes, confidences = read_npz(path, ["classes", "confidences"], MAX_BYTES)
    kinds = {(array.dtype, array.shape) for array in (classes, confidences)}
    if kinds != {(np.dtype(np.uint8), (entry.n_test,))} or classes.max(initial=0) >= CLASSES:
        raise UsageError(f"{path}: expected two arrays uint8 ({entry.n_test},), the first from 0 to {CLASSES - 1}.")
    if files.sha256(path) != entry.top1_sha256:
        raise UsageError(f"{path}: not the file that its manifest describes: its SHA-256 differs.")
    return Top1(classes, confidences)
