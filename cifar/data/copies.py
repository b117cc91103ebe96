"""Where copies of CIFAR-10 are on this machine: at a place that the user names, or where tools keep theirs."""

import os
from collections.abc import Iterator
from pathlib import Path

from cifar.data import archive, hugging_face
from cifar.data.download import cache
from cifar.errors import DataError

TORCHVISION_FOLDER = Path("data")  # the `root` of torchvision's examples, in the current folder


def named_copy(place: Path) -> Path:
    """Return the path of the copy at a place that the user names: a folder or archive of cifar10, or its parent.

    Raises:
        DataError: there is no such place, or no copy in it.
    """
    problem = "neither"
    try:
        if place.is_file():
            return place
        for path in (place / archive.FOLDER, place / archive.ARCHIVE):
            if path.exists():
                return path
        for name in archive.FILES_MD5:
            if (place / name).exists():
                return place
        for path in hugging_face.copies_in(place):
            return path
        if not place.exists():
            problem = "no such folder"
    except OSError as error:  # a place without permission to read
        problem = error.strerror or str(error)
    raise DataError(f"{place}: expected {archive.FOLDER}/ or {archive.ARCHIVE} there, found {problem}.")


def cached_copies() -> Iterator[Path]:
    """The paths of the copies that can be checked: in the project's cache, Keras's, and torchvision's folder."""
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets"
    for path in (
        cache() / archive.ARCHIVE,
        keras_home / archive.FOLDER,
        keras_home / "cifar-10-batches-py-target" / archive.FOLDER,
        keras_home / f"{archive.FOLDER}.tar.gz",
        TORCHVISION_FOLDER / archive.FOLDER,
        TORCHVISION_FOLDER / archive.ARCHIVE,
    ):
        if path.exists():
            yield path
