"""Writing files so that each is whole or absent: aside first, then renamed into place; holding folders."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock

from cifar.errors import BusyError, StorageError


@contextlib.contextmanager
def folder_for(path: Path) -> Iterator[Path]:
    """Make `path` (a folder and its parents) and report any failure to write below it as a StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        raise StorageError.of(Path(error.filename or path), error) from error


@contextlib.contextmanager
def atomic_replace(target: Path) -> Iterator[Path]:
    """Yield a scratch path beside `target`; what was written there takes `target`'s place if all went well.

    Works for files and for folders. A folder that stands at `target` makes way just before the rename, and comes
    back if that fails.

    Raises:
        StorageError: something could not be written; `target` is as it was.
    """
    with folder_for(target.parent) as parent:
        try:
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=parent))
            try:
                written = scratch / target.name
                yield written
                _flush(written)
                _move(written, target, scratch / "old")
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError as error:
            raise StorageError.of(target, error) from error


def _move(written: Path, target: Path, old: Path) -> None:
    """Rename `written` to `target`; a folder cannot be renamed over another, so that one waits at `old` meanwhile."""
    if not target.is_dir():
        written.replace(target)
        return
    target.rename(old)
    try:
        written.replace(target)
    except OSError:
        old.rename(target)
        raise


@contextlib.contextmanager
def lock(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a folder against other processes; the hold ends with the process, however it ends.

    Args:
        folder: an existing folder.
        patience: seconds to wait for it; whoever only looks whether it is held, holds it for a moment.

    Raises:
        BusyError: another process holds it.
        OSError: nothing can be written there.
    """
    try:
        with filelock.FileLock(folder / ".lock", timeout=patience, poll_interval=0.02):
            yield
    except filelock.Timeout:
        raise BusyError(f"{folder} is held by another process.") from None


@contextlib.contextmanager
def locked_dir(folder: Path, patience: float = 60.0) -> Iterator[None]:
    """Make a folder and hold it as `lock` does; what killed processes were writing in it is removed."""
    with folder_for(folder), lock(folder, patience):
        for scratch in folder.glob(".*.part"):
            shutil.rmtree(scratch, ignore_errors=True)
        yield


def write(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_replace(path) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, that of its files' relative names and bytes in sorted order."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def _flush(path: Path) -> None:
    """Force content to the disk before its rename, so that a power cut leaves no empty file."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
