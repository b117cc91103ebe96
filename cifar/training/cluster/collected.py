"""Runs that were trained where this machine cannot read them: as bytes, checked before they get their name."""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from cifar.errors import DataError
from cifar.system import files


@dataclass(frozen=True)
class PackedRun:
    """A run folder.

    Attributes:
        name: of the folder.
        content: a tar file of what is in it.
        sha256: of the content.
    """

    name: str
    content: bytes
    sha256: str


def pack(folder: Path) -> PackedRun:
    """Return a run folder as bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != ".lock":
                archive.add(path, str(path.relative_to(folder)))
    content = stream.getvalue()
    return PackedRun(folder.name, content, hashlib.sha256(content).hexdigest())


def unpack(packed: PackedRun, runs: Path) -> Path:
    """Write a run folder below `runs`, whole or not at all; one of its name is replaced. Return it.

    Raises:
        DataError: the bytes are not those that were packed.
        cifar.errors.StorageError: it cannot be written.
    """
    if hashlib.sha256(packed.content).hexdigest() != packed.sha256:
        raise DataError(f"{packed.name}: damaged on its way: its SHA-256 differs.")
    target = runs / packed.name
    with files.atomic_replace(target) as scratch:
        scratch.mkdir()
        with tarfile.open(fileobj=io.BytesIO(packed.content)) as archive:
            archive.extractall(scratch, filter="data")
    return target
