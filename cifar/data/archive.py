"""Reading CIFAR-10's published "python version", without trusting a byte of it.

Layout and digests: https://www.cs.toronto.edu/~kriz/cifar.html. The files are pickles, and a pickle can run code;
they are read through cifar.data.pickles.
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
MAX_FILE_BYTES = 64 << 20  # bytes; the published files have 31 MB

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]


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
    official = all(hashlib.md5(files[name]).hexdigest() == md5 for name, md5 in FILES_MD5.items())
    check_class_names(_unpickle(files["batches.meta"], path / "batches.meta"), path / "batches.meta")
    batches = {name: parse_batch(files[name], path / name) for name in FILES_MD5 if name != "batches.meta"}
    parts = [batches[f"data_batch_{n}"] for n in range(1, 6)]
    train = np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
    test = batches["test_batch"]
    for split, (_, labels) in {"training": train, "test": test}.items():
        check_class_counts(labels, split, path)
    return train, test, official


def parse_batch(content: bytes, path: Path) -> Arrays:
    """Return images (10000, 32, 32, 3) and labels (10000,), both uint8, of one batch file.

    Args:
        content: the file's bytes.
        path: what errors call it.

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
    if names != [name.encode() for name in CLASS_NAMES]:
        raise _unlike(path, f"the classes {', '.join(CLASS_NAMES)}", pickles.brief(names))


def check_class_counts(labels: NDArray[np.uint8], split: str, path: Path) -> None:
    """Raise DataError unless every class has its tenth of the images."""
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    expected = len(labels) // len(CLASS_NAMES)
    for name, count in zip(CLASS_NAMES, counts, strict=True):
        if count != expected:
            raise _unlike(path, f"{expected} {split} images of class '{name}'", f"{count}")


def _unpickle(content: bytes, path: Path) -> dict[Any, Any]:
    try:
        value = pickles.load(content)
    except pickle.UnpicklingError as error:
        raise _unlike(path, "a pickle of arrays, bytes, lists, ints and dicts", f"{error}"[:120]) from error
    except Exception as error:  # damaged pickles raise nearly every kind of error
        found = f"{type(error).__name__} after {len(content):,} bytes"
        raise _unlike(path, "a whole pickle of arrays, bytes, lists, ints and dicts", found) from error
    if not isinstance(value, dict):
        raise _unlike(path, "a dict", pickles.describe(value))
    return value


def _folder_files(folder: Path) -> dict[str, bytes]:
    files = {}
    for name in FILES_MD5:
        path = folder / name
        try:
            if not path.is_file():
                found = "another kind of thing" if path.exists() else os.strerror(errno.ENOENT)
                raise _unlike(path, "a readable file", found)
            if path.stat().st_size > MAX_FILE_BYTES:
                raise _unlike(path, f"at most {MAX_FILE_BYTES:,} bytes", f"{path.stat().st_size:,}")
            files[name] = path.read_bytes()
        except OSError as error:
            raise _unlike(path, "a readable file", error.strerror or str(error)) from error
    return files


def _archive_files(path: Path) -> dict[str, bytes]:
    """Read the members wanted, in memory: nothing is ever unpacked to where an archive says."""
    largest = len(FILES_MD5) * MAX_FILE_BYTES
    try:
        with gzip.open(path) as stream:
            content = stream.read(largest + 1)
        if len(content) > largest:
            raise _unlike(path, f"at most {largest:,} bytes unpacked", "more")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            members = _members(archive, path)
            return {name: _content(archive, members, f"{FOLDER}/{name}", path) for name in FILES_MD5}
    except DataError:
        raise
    except Exception as error:  # damaged archives raise many kinds of error
        raise _unlike(path, "a whole gzipped tar archive", f"{error}" or type(error).__name__) from error


def _members(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    members = {}
    for member in archive:
        if member.size < 0:  # leads tarfile round in circles
            raise _unlike(path, f"{member.name} a file", f"{member.size:,} bytes")
        members[member.name] = member
    return members


def _content(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, path: Path) -> bytes:
    member = members.get(name)
    if member is None:
        raise _unlike(path, f"a member {name}", "none")
    stream = archive.extractfile(member) if member.isfile() else None
    if stream is None or member.size > MAX_FILE_BYTES:
        raise _unlike(
            path, f"{name} a file of at most {MAX_FILE_BYTES:,} bytes", f"{member.size:,} bytes, other kind"
        )
    return stream.read()


def _entry(mapping: dict[Any, Any], key: bytes, path: Path) -> Any:
    if key not in mapping:
        raise _unlike(path, f"an entry '{key.decode()}'", f"{', '.join(map(_text, mapping))[:80] or 'none'}")
    return mapping[key]


def _text(key: Any) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else repr(key)


def _unlike(path: Path, expected: str, found: str) -> DataError:
    return DataError(f"{path}: expected {printable(expected)}, found {printable(found)}.")
