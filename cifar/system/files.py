"""Writing files so that each is whole or absent: to a scratch path first, then renamed; locking folders."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock

from cifar.errors import BusyError, StorageError

BLOCK = 1 << 20  # bytes that are hashed at once


@contextlib.contextmanager
def folder_for(path: Path) -> Iterator[Path]:
    """Make the folder `path` and its parents, and report any failure to write below it as a StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        raise StorageError.of(Path(error.filename or path), error) from error


@contextlib.contextmanager
def atomic_replace(target: Path) -> Iterator[Path]:
    """Yield a scratch path beside `target`; the file or folder written there replaces `target` when the block ends.

    An existing folder is moved away just before the rename, and back if that fails.

    Raises:
        StorageError: something could not be written; `target` is unchanged.
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
    """Rename `written` to `target`; a folder cannot be renamed over another, which waits at `old` meanwhile."""
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
def lock(folder: Path, timeout: float = 0.0) -> Iterator[None]:
    """Lock an existing folder against other processes; the lock ends with the process, however it ends.

    Args:
        folder: the folder.
        timeout: seconds to wait for the lock; a negative number waits for ever.

    Raises:
        BusyError: another process has locked it.
        OSError: nothing can be written there.
    """
    try:
        with filelock.FileLock(folder / ".lock", timeout=timeout, poll_interval=0.02):
            yield
    except filelock.Timeout:
        raise BusyError(f"{folder} is locked by another process.") from None


@contextlib.contextmanager
def locked_dir(folder: Path, timeout: float = 60.0) -> Iterator[None]:
    """Make a folder and lock it as `lock` does; remove what killed processes were writing in it."""
    with folder_for(folder), lock(folder, timeout):
        for scratch in folder.glob(".*.part"):
            shutil.rmtree(scratch, ignore_errors=True)
        yield


def write(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`, whole or not at all."""
    if isinstance(content, str):
        content = content.encode()
    with atomic_replace(path) as scratch:
        scratch.write_bytes(content)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes.

    Of a folder: over its files in the order of their paths, of each the path within the folder, a zero byte, its size
    in decimal, a zero byte, its bytes.
    """
    digest = hashlib.sha256()
    if not path.is_dir():
        _update(digest, path)
        return digest.hexdigest()
    for file in sorted(_files_below(path)):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        _update(digest, file)
    return digest.hexdigest()


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in _files_below(path))


def _files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _update(digest: "hashlib._Hash", file: Path) -> None:
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)


def _flush(path: Path) -> None:
    """Force a file or a folder's files to the disk before the rename, so that a power cut leaves no empty file."""
    files = _files_below(path) if path.is_dir() else [path]
    for file in files:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
