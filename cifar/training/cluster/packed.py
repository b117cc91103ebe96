"""Folders and files that go through Ray from one machine to another: as bytes, checked before they get their name."""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from cifar.errors import DataError
from cifar.system import files


@dataclass(frozen=True)
class Packed:
    """A folder or a file.

    Attributes:
        name: its name.
        content: a tar file of it.
        sha256: of the content.
    """

    name: str
    content: bytes
    sha256: str


def pack(path: Path) -> Packed:
    """Return a folder (without the lock of a run), or a file, as bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
        archive.add(path.resolve(), path.name, filter=_without_lock)
    content = stream.getvalue()
    return Packed(path.name, content, hashlib.sha256(content).hexdigest())


def _without_lock(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(member.name).name == ".lock" else member


def unpack(packed: Packed, target: Path) -> None:
    """Write a folder or a file to `target`, whole or not at all; what is there is replaced.

    Raises:
        DataError: the bytes are not those that were packed.
        cifar.errors.StorageError: it cannot be written.
    """
    if hashlib.sha256(packed.content).hexdigest() != packed.sha256:
        raise DataError(f"{packed.name}: damaged on its way: its SHA-256 differs.")
    with files.atomic_replace(target) as scratch, tarfile.open(fileobj=io.BytesIO(packed.content)) as archive:
        archive.extractall(scratch.parent, filter="data")
        (scratch.parent / packed.name).rename(scratch)
