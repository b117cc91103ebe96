"""Small copies of CIFAR-10, and a machine without any: for the tests of data sets and downloads."""

import functools
import gzip
import hashlib
import io
import pickle
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cifar.data import archive, dataset, download, sources

SMALL = 20  # images in each file of the small copies


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, no copy on this machine, and one source: a published address without a server."""
    monkeypatch.setattr(archive, "BATCH", SMALL)
    monkeypatch.setattr(dataset, "TRAIN", 5 * SMALL)
    monkeypatch.setattr(dataset, "TEST", SMALL)
    monkeypatch.setattr(sources, "PUBLISHED_URL", closed_address())
    monkeypatch.setattr(sources, "MIRRORS", ())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.delenv("CIFAR10_URL", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tmp_path in download.cache().parents


def closed_address() -> str:
    """A URL on this machine where no server listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/{archive.ARCHIVE}"


@functools.cache
def small_files(seed: int = 0) -> dict[str, bytes]:
    """The files of the data set, by name, with 20 random images each."""
    rng = np.random.default_rng(seed)
    batches = {}
    for name in archive.FILES_MD5:
        images = rng.integers(0, 256, (SMALL, 3072), np.uint8)
        batches[name] = pickle.dumps({b"data": images, b"labels": [i % 10 for i in range(SMALL)]}, 2)
    names = [name.encode() for name in archive.CLASS_NAMES]
    return {**batches, "batches.meta": pickle.dumps({b"label_names": names}, 2)}


def unpacked(path: Path, seed: int = 0) -> Path:
    """Make a folder of the data set."""
    path.mkdir(parents=True)
    for name, content in small_files(seed).items():
        (path / name).write_bytes(content)
    return path


def packed(path: Path, seed: int = 0) -> Path:
    """Make an archive of the data set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar(seed))
    return path


@functools.cache
def tar(seed: int = 0) -> bytes:
    """The bytes of an archive of the data set."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packing:
        for name, content in small_files(seed).items():
            info = tarfile.TarInfo(f"{archive.FOLDER}/{name}")
            info.size = len(content)
            packing.addfile(info, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), compresslevel=1, mtime=0)


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes, seed: int = 0) -> None:
    """Let this archive, with the files of this seed, be the published one."""
    monkeypatch.setattr(archive, "ARCHIVE_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(archive, "ARCHIVE_BYTES", len(content))
    for name, file in small_files(seed).items():
        monkeypatch.setitem(archive.FILES_MD5, name, hashlib.md5(file).hexdigest())


def only_reading(note: str) -> None:
    """A `note` that accepts nothing but what is read."""
    assert note.startswith("Reading ")


def warnings_of(notes: list[str]) -> list[str]:
    """The notes beside what is read."""
    return [note for note in notes if not note.startswith("Reading ")]
