"""The data set as arrays: read from a copy, downloaded or drawn, and checked."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar.data import archive, hugging_face, synthetic
from cifar.data.copies import cached_copies, named_copy
from cifar.data.download import Note, fetch
from cifar.errors import DataError, NotFoundError, UsageError

TRAIN, TEST = 50_000, 10_000  # images of cifar10
SYNTHETIC_TRAIN, SYNTHETIC_TEST = 4_000, 1_000
NOT_OF_SYNTHETIC = "--data-dir says where cifar10 is; it cannot be used with synthetic data."

Name = Literal["cifar10", "synthetic"]
NAMES: tuple[Name, ...] = get_args(Name)


@dataclass(frozen=True)
class Dataset:
    """Images and labels.

    Attributes:
        name: `cifar10` or `synthetic`.
        official: whether every byte is the published one; None for synthetic data.
        class_names: the ten names, in label order.
        x_train, x_test: uint8, (N, 32, 32, 3), RGB.
        y_train, y_test: uint8, (N,).
        path: of the copy that was read; None for synthetic data.
    """

    name: Name
    official: bool | None
    class_names: tuple[str, ...]
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]
    path: Path | None = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the bytes of training images, training labels, test images, test labels."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def head(self, n: int | None) -> "Dataset":
        """The same data with only the first n training images (all if None) and the whole test set."""
        return replace(self, x_train=self.x_train[:n], y_train=self.y_train[:n])

    def hold_out(self, n: int) -> "Dataset":
        """The same training images without the last n, which take the place of the test images."""
        return replace(
            self,
            x_train=self.x_train[:-n],
            y_train=self.y_train[:-n],
            x_test=self.x_train[-n:],
            y_test=self.y_train[-n:],
        )

    def facts(self) -> dict[str, Any]:
        """The identity of the data for results: name, digest and numbers of images."""
        return {
            "name": self.name,
            "official": self.official,
            "sha256": self.sha256,
            "n_train": len(self.x_train),
            "n_test": len(self.x_test),
        }


def load(choice: str, data_dir: Path | None, note: Note) -> Dataset:
    """Load the data set that `--data` names.

    Args:
        choice: `cifar10`, `synthetic`, or `auto`: cifar10 if it is here or can be downloaded, else synthetic.
        data_dir: the user's place of cifar10 (else CIFAR10_DIR).
        note: called with each sentence that the user should read.

    Raises:
        UsageError: data_dir is set for synthetic data.
        DataError: cifar10 is required but not found, or damaged.
    """
    if choice == "synthetic":
        if data_dir is not None:
            raise UsageError(NOT_OF_SYNTHETIC)
        return draw_synthetic()
    try:
        return load_cifar10(data_dir, note)
    except NotFoundError as error:
        if choice == "cifar10":
            raise
        note(f"CIFAR-10 not found: using synthetic images instead. {error}")
        return draw_synthetic()


def draw_synthetic(n_train: int = SYNTHETIC_TRAIN, n_test: int = SYNTHETIC_TEST, seed: int = 0) -> Dataset:
    """Draw the synthetic data set (see cifar.data.synthetic)."""
    x_train, y_train = synthetic.draw(n_train, seed, split=0)
    x_test, y_test = synthetic.draw(n_test, seed, split=1)
    return Dataset("synthetic", None, synthetic.CLASS_NAMES, x_train, y_train, x_test, y_test)


def by_name(name: str, data_dir: Path | None, note: Note, download: bool = True) -> Dataset:
    """Load the data set of a name in NAMES; cifar10 as `load_cifar10` does, with its errors."""
    if name == "synthetic":
        return draw_synthetic()
    return load_cifar10(data_dir, note, download)


def load_cifar10(data_dir: Path | None, note: Note, download: bool = True) -> Dataset:
    """Read cifar10 from data_dir, else CIFAR10_DIR, else a cached copy (cifar.data.copies), else the network.

    A copy that is not the published one is used only if the user names it, and a note says so.

    Args:
        data_dir: the user's place of cifar10.
        note: called with each sentence that the user should read.
        download: whether the network may be used.

    Raises:
        NotFoundError: there is no copy.
        DataError: the copy that the user names is damaged or not there.
    """
    if data_dir is None and os.environ.get("CIFAR10_DIR"):
        data_dir = Path(os.environ["CIFAR10_DIR"])
    if data_dir is not None:
        return _load_named(data_dir, note)
    for path in cached_copies():
        try:
            dataset = _read(path, note)
        except DataError as error:
            note(f"Skipping a damaged copy. {error}")
            continue
        if dataset.official:
            return dataset
        note(f"{path} is not the published CIFAR-10 and was skipped; name it with --data-dir to use it.")
    for path in hugging_face.cached_copies():
        note(f"{path} cannot be checked and was skipped; name it with --data-dir to use it (needs pyarrow).")
    if not download:
        raise NotFoundError("cifar10 is not on this machine; --data-dir or CIFAR10_DIR say where a copy is.")
    return _read(fetch(note), note)


def _load_named(data_dir: Path, note: Note) -> Dataset:
    """Read the copy at a place that the user names."""
    dataset = _read(named_copy(data_dir), note)
    if not dataset.official:
        note(
            f"{data_dir} is not the published CIFAR-10, bit for bit; continuing because it was named. "
            f"Its digest: {dataset.sha256}"
        )
    return dataset


def _read(path: Path, note: Note) -> Dataset:
    """Read and check a copy of cifar10. Takes seconds: every byte is checked.

    Raises:
        DataError: it is damaged or incomplete.
    """
    note(f"Reading {path}")
    if hugging_face.is_copy(path):
        train, test = hugging_face.read(path)
        official = False
    else:
        train, test, official = archive.read(path)
    (x_train, y_train), (x_test, y_test) = train, test
    if (len(x_train), len(x_test)) != (TRAIN, TEST):
        raise DataError(f"{path}: expected {TRAIN}/{TEST} images, found {len(x_train)}/{len(x_test)}.")
    return Dataset("cifar10", official, archive.CLASS_NAMES, x_train, y_train, x_test, y_test, path)
