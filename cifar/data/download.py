"""Downloading CIFAR-10's published archive into this project's cache: that file, or nothing."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cifar.data import archive
from cifar.errors import NotFoundError, printable
from cifar.system.files import atomic_replace, locked_dir, sha256

if TYPE_CHECKING:
    from rich.progress import Progress

PUBLISHED_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_BYTES = 170_498_071  # of the published archive
CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds for the next MIN_BYTES
MIN_BYTES = 64 << 10
CHUNK_BYTES = 64 << 10
PROGRESS_INTERVAL = 0.1  # seconds
MAX_MESSAGE = 300  # characters of a server's message that are shown
WAIT_FOREVER = -1.0  # for the lock

TOO_SLOW = "the server is too slow or silent"
OTHER_FILE = "the file is not the published one"

Note = Callable[[str], None]


class DownloadError(Exception):
    """A source does not deliver the archive; the message says why."""


def cache() -> Path:
    """The project's own cache folder."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cifar-bench"))


def fetch(note: Note) -> Path:
    """Download the archive into the cache, unless it is there, and return its path.

    The sources are tried in turn. The file gets its name only if its SHA-256 is the published one. One process
    downloads at a time; the others wait for it and use its file.

    Args:
        note: called with a sentence about each source.

    Raises:
        NotFoundError: no source delivers the archive.
        cifar.errors.StorageError: the cache cannot be written.
    """
    target = cache() / archive.ARCHIVE
    if _is_published(target):
        return target
    with locked_dir(cache(), WAIT_FOREVER):
        if not _is_published(target):
            _fetch_from_any(_sources(), target, note)
    return target


def _is_published(path: Path) -> bool:
    return path.is_file() and sha256(path) == archive.ARCHIVE_SHA256


def _sources() -> list[str]:
    """The addresses of the archive: the published one, then the user's."""
    sources = [PUBLISHED_URL]
    if os.environ.get("CIFAR10_URL"):
        sources.append(os.environ["CIFAR10_URL"])
    return sources


def _fetch_from_any(sources: list[str], target: Path, note: Note) -> None:
    """Download the archive to `target` from the first source that delivers it.

    Raises:
        NotFoundError: none does.
    """
    failures = []
    for url in sources:
        note(f"Fetching {url}")
        try:
            with atomic_replace(target) as partial:
                _download(url, partial)
            return
        except DownloadError as error:
            failures.append(f"{url}: {error}")
    raise NotFoundError(
        f"{'; '.join(failures)}. What helps: --data-dir or CIFAR10_DIR for a copy you have "
        f"({archive.FOLDER}/ or {archive.ARCHIVE}); CIFAR10_URL for a mirror; --data synthetic to do without."
    )


def _download(url: str, path: Path) -> None:
    """Download the archive from `url` to `path`.

    The transfer runs in a thread, because the timeout of a socket starts anew with every byte: a server that sends a
    byte now and then could hold it for ever. An abandoned thread ends with its connection, or with this process.

    Raises:
        DownloadError: the server does not deliver the archive, or not in time.
        OSError: `path` cannot be written.
    """
    transfer = _Transfer(url, path)
    transfer.start()
    try:
        _wait_for(transfer)
    finally:
        transfer.abandoned.set()
    if not _is_published(path):
        raise DownloadError(OTHER_FILE)


class _Transfer(threading.Thread):
    """A transfer in the background.

    Attributes:
        received: bytes written so far.
        abandoned: set when nobody waits for it any more.
        outcome: done when the transfer ends; holds its error if it failed.
    """

    def __init__(self, url: str, path: Path) -> None:
        super().__init__(daemon=True)
        self.url, self.path = url, path
        self.received = 0
        self.abandoned = threading.Event()
        self.outcome: Future[None] = Future()

    def run(self) -> None:
        """Transfer, and keep an error for the thread that waits."""
        try:
            self._stream()
        except BaseException as error:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(None)

    def _stream(self) -> None:
        """Request the archive and write the body of the response to the file."""
        import requests

        timeout = (CONNECT_TIMEOUT, READ_TIMEOUT)
        headers = {"Accept-Encoding": "identity"}  # the archive is compressed already
        try:
            with requests.get(self.url, stream=True, timeout=timeout, headers=headers) as response:
                response.raise_for_status()
                self._write(response.iter_content(CHUNK_BYTES))
        except (requests.RequestException, ValueError) as error:  # ValueError: an address that cannot be parsed
            raise DownloadError(_describe(error)) from error

    def _write(self, chunks: Iterator[bytes]) -> None:
        """Write chunks to the file, at most ARCHIVE_BYTES in all, until the transfer is abandoned."""
        with self.path.open("wb") as file:
            for chunk in chunks:
                if self.abandoned.is_set():
                    return
                if self.received + len(chunk) > ARCHIVE_BYTES:
                    raise DownloadError(OTHER_FILE)
                file.write(chunk)
                self.received += len(chunk)


def _describe(error: Exception) -> str:
    """Why a transfer failed, in a few words."""
    import requests

    message = str(error)
    if isinstance(error, requests.Timeout) or "timed out" in message:  # in mid-stream, it is a ConnectionError
        return TOO_SLOW
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    return printable(message, MAX_MESSAGE)


def _wait_for(transfer: _Transfer) -> None:
    """Show the progress of a transfer on stderr until it ends.

    Raises:
        DownloadError: the transfer failed, or fewer than MIN_BYTES came in READ_TIMEOUT seconds.
    """
    counted_bytes, counted_at = 0, time.monotonic()
    with _progress() as progress:
        task = progress.add_task("download", total=ARCHIVE_BYTES)
        while not wait([transfer.outcome], PROGRESS_INTERVAL).done:
            progress.update(task, completed=transfer.received)
            if transfer.received:
                progress.start()
            now = time.monotonic()
            if transfer.received - counted_bytes >= MIN_BYTES:
                counted_bytes, counted_at = transfer.received, now
            elif now - counted_at > READ_TIMEOUT:
                raise DownloadError(TOO_SLOW)
        progress.update(task, completed=transfer.received)
    transfer.outcome.result()


@contextmanager
def _progress() -> "Iterator[Progress]":
    """A progress bar with speed and time left; it appears once it is started."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    try:
        yield progress
    finally:
        if progress.live.is_started:
            progress.stop()
