"""Reading CIFAR-10's published "python version", with every byte treated as untrusted.

Layout and digests: https://www.cs.toronto.edu/~kriz/cifar.html. The files are pickles, which can run code when they
are loaded; they are read with the restricted unpickler of cifar.data.pickles.
"""

import errno
import gzip
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.data import pickles
from cifar.errors import DataError, printable

ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
ARCHIVE_BYTES = 170_498_071
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FILES_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCH = 10_000  # images in each file
MAX_FILE_BYTES = 64 << 20  # the published files have 31 MB

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Images (N, 32, 32, 3) and labels (N,)."""


def read(path: Path) -> tuple[Arrays, Arrays, bool]:
    """Read the data set from its folder or its archive.

    Args:
        path: a folder `cifar-10-batches-py`, or a file `cifar-10-python.tar.gz`.

    Returns:
        (images, labels) of training and of test, uint8 of shapes (N, 32, 32, 3) and (N,), and whether every file
        is the published one.

    Raises:
        DataError: a file is missing, damaged, hostile or mislabelled.
    """
    files = _folder_files(path) if path.is_dir() else _archive_files(path)
    meta_path = path / "batches.meta"
    check_class_names(_unpickle(files["batches.meta"], meta_path), meta_path)
    images, labels = [], []
    for n in range(1, 6):
        name = f"data_batch_{n}"
        batch_images, batch_labels = parse_batch(files[name], path / name)
        images.append(batch_images)
        labels.append(batch_labels)
    train = np.concatenate(images), np.concatenate(labels)
    test = parse_batch(files["test_batch"], path / "test_batch")
    check_class_counts(train[1], "training", path)
    check_class_counts(test[1], "test", path)
    return train, test, _are_published(files)


def _are_published(files: dict[str, bytes]) -> bool:
    return all(hashlib.md5(files[name]).hexdigest() == md5 for name, md5 in FILES_MD5.items())


def parse_batch(content: bytes, path: Path) -> Arrays:
    """Return images (10000, 32, 32, 3) and labels (10000,), both uint8, of one batch file.

    Args:
        content: the file's bytes.
        path: of the file, for error messages.

    Raises:
        DataError: the content is not such a batch.
    """
    batch = _unpickle(content, path)
    data, labels = _entry(batch, b"data", path), _entry(batch, b"labels", path)
    if not isinstance(data, pickles.Array) or data.value.shape != (BATCH, 3072):
        raise _unlike(path, f"'data' a uint8 array of shape ({BATCH}, 3072)", pickles.describe(data))
    if not isinstance(labels, list) or len(labels) != BATCH:
        raise _unlike(path, f"'labels' a list of {BATCH}", pickles.describe(labels))
    for label in labels:
        if type(label) is not int or not 0 <= label < len(CLASS_NAMES):
            raise _unlike(path, "labels from 0 to 9", pickles.brief(label))
    images = data.value.reshape(BATCH, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, np.uint8)


def check_class_names(meta: dict[Any, Any], path: Path) -> None:
    """Raise DataError unless `batches.meta` lists the ten classes in their order."""
    names = _entry(meta, b"label_names", path)
    expected = list(map(str.encode, CLASS_NAMES))
    if names != expected:
        raise _unlike(path, f"the classes {', '.join(CLASS_NAMES)}", pickles.brief(names))


def check_class_counts(labels: NDArray[np.uint8], split: str, path: Path) -> None:
    """Raise DataError unless every class has a tenth of the images."""
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    expected = len(labels) // len(CLASS_NAMES)
    for name, count in zip(CLASS_NAMES, counts, strict=True):
        if count != expected:
            raise _unlike(path, f"{expected} {split} images of class '{name}'", f"{count}")


def _unpickle(content: bytes, path: Path) -> dict[Any, Any]:
    """The dict in a pickle.

    Raises:
        DataError: the pickle is damaged, not allowed, or not of a dict.
    """
    try:
        value = pickles.load(content)
    except pickle.UnpicklingError as error:
        raise _unlike(path, "a pickle of arrays, bytes, lists, ints and dicts", f"{error}"[:120]) from error
    except Exception as error:  # damaged pickles raise nearly every kind of error
        description = f"{type(error).__name__} after {len(content):,} bytes"
        raise _unlike(path, "a whole pickle of arrays, bytes, lists, ints and dicts", description) from error
    if not isinstance(value, dict):
        raise _unlike(path, "a dict", pickles.describe(value))
    return value


def _folder_files(folder: Path) -> dict[str, bytes]:
    """The bytes of the data set's files in a folder, by name."""
    files = {}
    for name in FILES_MD5:
        path = folder / name
        try:
            files[name] = _read_file(path)
        except OSError as error:
            raise _unlike(path, "a readable file", error.strerror or str(error)) from error
    return files


def _read_file(path: Path) -> bytes:
    if not path.exists():
        raise _unlike(path, "a readable file", os.strerror(errno.ENOENT))
    if not path.is_file():
        raise _unlike(path, "a readable file", "another kind of thing")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise _unlike(path, f"at most {MAX_FILE_BYTES:,} bytes", f"{size:,}")
    return path.read_bytes()


def _archive_files(path: Path) -> dict[str, bytes]:
    """The bytes of the data set's files in an archive, by name, read in memory: nothing is unpacked to the disk."""
    max_bytes = len(FILES_MD5) * MAX_FILE_BYTES
    files = {}
    try:
        with gzip.open(path) as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise _unlike(path, f"at most {max_bytes:,} bytes unpacked", "more")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            members = _members(archive, path)
            for name in FILES_MD5:
                files[name] = _read_member(archive, members, f"{FOLDER}/{name}", path)
        return files
    except DataError:
        raise
    except Exception as error:  # damaged archives raise many kinds of error
        raise _unlike(path, "a whole gzipped tar archive", f"{error}" or type(error).__name__) from error


def _members(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """The members of an archive, by name."""
    members = {}
    for member in archive:
        if member.size < 0:  # tarfile would loop for ever
            raise _unlike(path, f"{member.name} a file", f"{member.size:,} bytes")
        members[member.name] = member
    return members


def _read_member(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, path: Path) -> bytes:
    member = members.get(name)
    if member is None:
        raise _unlike(path, f"a member {name}", "none")
    expected = f"{name} a file of at most {MAX_FILE_BYTES:,} bytes"
    if not member.isfile():
        raise _unlike(path, expected, f"{member.size:,} bytes, other kind")
    if member.size > MAX_FILE_BYTES:
        raise _unlike(path, expected, f"{member.size:,} bytes")
    stream = archive.extractfile(member)
    assert stream is not None, "a regular file has content"
    return stream.read()


def _entry(mapping: dict[Any, Any], key: bytes, path: Path) -> Any:
    if key not in mapping:
        keys = ", ".join(map(_text, mapping))
        raise _unlike(path, f"an entry '{key.decode()}'", keys[:80] or "none")
    return mapping[key]


def _text(key: Any) -> str:
    if isinstance(key, bytes):
        return key.decode(errors="replace")
    return repr(key)


def _unlike(path: Path, expected: str, actual: str) -> DataError:
    return DataError(f"{path}: expected {printable(expected)}, found {printable(actual)}.")
