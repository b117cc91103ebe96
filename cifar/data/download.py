"""CIFAR-10's archive from the network into this project's cache: the published one, or nothing."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path

from cifar.data import archive
from cifar.errors import NotFoundError, printable
from cifar.system.files import folder_for, lock, sha256

PUBLISHED_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds for the next LEAST bytes
LEAST = 64 << 10
LONGEST = 300  # characters of a server's own words that are passed on
MOST = 170_498_071  # bytes of the published archive
UNTIL_FREE = -1.0  # wait for a lock however long it is held
INCOMING = ".incoming-"  # folders of downloads under way

Note = Callable[[str], None]


def cache() -> Path:
    """The project's own cache folder."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cifar-bench"))


def fetch(note: Note) -> Path:
    """Download the archive into the cache and return its path.

    The published address is tried first, then the user's own (CIFAR10_URL). The file appears under its name only
    when its SHA-256 is the published one; if such a file is there already, nothing is fetched. One process fetches
    at a time; whoever waited for it finds the file.

    Raises:
        NotFoundError: no address gave the archive.
        cifar.errors.StorageError: the cache cannot be written.
    """
    kept = cache() / archive.ARCHIVE
    if _is_published(kept):
        return kept
    with folder_for(cache()) as folder, lock(folder, patience=UNTIL_FREE):
        if _is_published(kept):
            return kept
        for left in folder.glob(f"{INCOMING}*"):  # of a process that was killed: nobody else is fetching
            shutil.rmtree(left, ignore_errors=True)
        _fetch(kept, note)
    return kept


def _is_published(path: Path) -> bool:
    return path.is_file() and sha256(path) == archive.ARCHIVE_SHA256


def _fetch(kept: Path, note: Note) -> None:
    """Try one address after the other until one gives the archive."""
    failures = []
    for url in (PUBLISHED_URL, *filter(None, [os.environ.get("CIFAR10_URL")])):
        note(f"Fetching {url}")
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=INCOMING) as new:
            failure = _download(url, Path(new))
            if failure is None:
                (Path(new) / archive.ARCHIVE).replace(kept)
                return
        failures.append(f"{url}: {failure}")
    raise NotFoundError(
        f"{'; '.join(failures)}. Ways to get it: --data-dir or CIFAR10_DIR for a copy you have "
        f"({archive.FOLDER}/ or {archive.ARCHIVE}); CIFAR10_URL for a mirror; --data synthetic to do without."
    )


def _download(url: str, folder: Path) -> str | None:
    """Download the archive into `folder`, or return why that failed.

    In a thread of its own: every byte a server lets drip renews the timeout of its socket, and nothing else ends
    the wait. A thread that was given up ends with its connection, or with this process.
    """
    progress, failure = _DownloadProgress(), Future[str | None]()

    def work() -> None:
        try:
            failure.set_result(_retrieve(url, folder, progress))
        except BaseException as error:  # the disk is full, say: for who waits
            failure.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        before = 0
        while not wait([failure], READ_TIMEOUT).done:
            if progress.bytes - before < LEAST:
                return "no answer in time"
            before = progress.bytes
        return failure.result()
    finally:
        progress.close()


def _retrieve(url: str, folder: Path, progress: "_DownloadProgress") -> str | None:
    """Download the archive, however long that takes, or return why it failed.

    What the network does wrong is caught here, in folder_for's body: requests' errors are OSErrors too, and would
    pass for failures to write.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT))
    try:
        pooch.retrieve(url, archive.ARCHIVE_SHA256, archive.ARCHIVE, folder, downloader=downloader)
    except requests.RequestException as error:
        return _reason(error)
    except (ValueError, _TooMuchError):
        return "the file is not the published one"
    return None


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.Timeout) or "timed out" in str(error):  # halfway, a timeout is a ConnectionError
        return "no answer in time"
    return "no connection" if isinstance(error, requests.ConnectionError) else printable(str(error), LONGEST)


class _TooMuchError(Exception):
    """More bytes came than the published archive has, or they are no longer waited for."""


class _DownloadProgress:
    """What pooch calls while it downloads, shown by rich on stderr.

    Attributes:
        bytes: how many have come.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("download", total=None)
        self.bytes, self._done, self._closed = 0, False, False

    @property
    def total(self) -> float | None:
        return self._progress.tasks[0].total

    @total.setter
    def total(self, total: float) -> None:
        if not self._closed:
            self._progress.start()
            self._progress.update(self._task, total=min(total, MOST))

    def update(self, n: int) -> None:
        """Count the bytes of a piece; of the last one, pooch says as many as of the others."""
        if self._done:
            return
        if self.bytes > MOST or self._closed:
            raise _TooMuchError
        self.bytes += n
        self._progress.update(self._task, completed=self.bytes)

    def reset(self) -> None:
        """Count no more: pooch is done, and would go on to what the server said the length was."""
        self._done = True

    def close(self) -> None:
        self._closed = True
        self._progress.stop()
