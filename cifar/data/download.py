"""Downloading CIFAR-10's published archive into this project's cache: that file, or nothing."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cifar.data import archive, sources
from cifar.data.sources import OTHER_FILE, TOO_SLOW, DownloadError
from cifar.data.transfer import Transfer
from cifar.errors import NotFoundError
from cifar.system.files import atomic_replace, locked_dir, sha256

if TYPE_CHECKING:
    from rich.progress import Progress

MIN_SPEED = 200_000  # bytes per second, below which the next source is tried
SLOW_SECONDS = 20.0  # over which the speed is measured
# Where every source is too slow, they are tried again, and given up for less:
READ_TIMEOUT = 30.0  # seconds for the next MIN_BYTES
MIN_BYTES = 64 << 10
PATIENT_ROUNDS = 3  # over the sources that delivered something
PROGRESS_INTERVAL = 0.1  # seconds
WAIT_FOREVER = -1.0  # for the lock

Note = Callable[[str], None]
Limit = tuple[int, float]
"""The fewest bytes in how many seconds."""


def cache() -> Path:
    """The project's own cache folder."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cifar-bench"))


def partial_file() -> Path:
    """The part of the archive that an interrupted download leaves in the cache."""
    return cache() / f"{archive.ARCHIVE}.partial"


def fetch(note: Note) -> Path:
    """Download the archive into the cache, unless it is there, and return its path.

    The sources are tried in turn, and one that is too slow is left for the next. A download that is interrupted
    leaves its part in the cache, and any source continues it. The file gets its name only if its SHA-256 is the
    published one. One process downloads at a time; the others wait for it and use its file.

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
            _fetch_from_any(sources.addresses(), note)
            with atomic_replace(target) as scratch:
                partial_file().replace(scratch)
    return target


def _is_published(path: Path) -> bool:
    return path.is_file() and sha256(path) == archive.ARCHIVE_SHA256


def _fetch_from_any(urls: list[str], note: Note) -> None:
    """Complete the partial file from the first source that can; the slow ones wait until all have been tried.

    Raises:
        NotFoundError: none can.
    """
    fast = int(MIN_SPEED * SLOW_SECONDS), SLOW_SECONDS
    patient = MIN_BYTES, READ_TIMEOUT
    failures: dict[str, DownloadError] = {}
    for limit in [fast] + PATIENT_ROUNDS * [patient]:
        for url in urls:
            try:
                _fetch(url, limit, note)
                return
            except DownloadError as error:
                failures[url] = error
                if error.received:
                    note(f"Leaving {url}: {error}.")
        delivered = {url: error.received for url, error in failures.items() if error.received}
        urls = sorted(delivered, key=delivered.__getitem__, reverse=True)
    raise NotFoundError(
        f"{_reasons(failures)}. What helps: --data-dir or CIFAR10_DIR for a copy you have "
        f"({archive.FOLDER}/ or {archive.ARCHIVE}); CIFAR10_URL for a mirror; --data synthetic to do without."
    )


def _reasons(failures: dict[str, DownloadError]) -> str:
    """Why sources failed, those with the same reason together, then by the names of their servers."""
    urls_by_reason: dict[str, list[str]] = {}
    for url, error in failures.items():
        urls_by_reason.setdefault(str(error), []).append(url)
    reasons = []
    for reason, urls in urls_by_reason.items():
        names = urls
        if len(urls) > 1:
            names = list(map(sources.host, urls))
        reasons.append(f"{', '.join(names)}: {reason}")
    return "; ".join(reasons)


def _fetch(url: str, limit: Limit, note: Note) -> None:
    """Complete the partial file from one source, and check it whole.

    Raises:
        DownloadError: the source does not deliver the archive, or not in time.
        OSError: the file cannot be written.
    """
    partial = partial_file()
    offset = _size(partial)
    if offset < archive.ARCHIVE_BYTES:
        progress_so_far = f", from {offset / 1e6:.1f} of {archive.ARCHIVE_BYTES / 1e6:.1f} MB on" if offset else ""
        note(f"Fetching {url}{progress_so_far}")
        _transfer(url, partial, offset, limit)
    if _is_published(partial):
        return
    partial.unlink()
    if offset == 0:
        raise DownloadError(OTHER_FILE)
    note("The parts of the download are not of the published file; starting again.")
    _fetch(url, limit, note)


def _size(partial: Path) -> int:
    if not partial.exists():
        return 0
    return partial.stat().st_size


def _transfer(url: str, partial: Path, offset: int, limit: Limit) -> None:
    """Append to the partial file, which has `offset` bytes, what it lacks. Errors as of `_fetch`."""
    transfer = Transfer(url, partial, offset, read_timeout=limit[1])
    transfer.start()
    try:
        _wait_for(transfer, limit)
    except DownloadError as error:
        transfer.abandon()
        if not error.received and partial.exists():  # nothing of such a source is kept
            os.truncate(partial, offset)
        raise
    finally:
        transfer.abandon()


def _wait_for(transfer: Transfer, limit: Limit) -> None:
    """Show the progress of a transfer on stderr until it ends.

    Raises:
        DownloadError: the transfer failed, or is slower than the limit.
    """
    min_bytes, seconds = limit
    counted_bytes, counted_at = 0, time.monotonic()
    with _progress() as progress:
        task = progress.add_task(sources.host(transfer.url), total=archive.ARCHIVE_BYTES, completed=transfer.offset)
        while not wait([transfer.outcome], PROGRESS_INTERVAL).done:
            progress.update(task, completed=transfer.position)
            if transfer.received:
                progress.start()
            now = time.monotonic()
            recent_bytes = transfer.received - counted_bytes
            if recent_bytes >= min_bytes:
                counted_bytes, counted_at = transfer.received, now
            elif now - counted_at > seconds:
                speed = recent_bytes / (now - counted_at) / 1000
                raise DownloadError(f"{TOO_SLOW} ({speed:,.1f} kB/s)", transfer.received)
        progress.update(task, completed=transfer.position)
    transfer.outcome.result()


@contextmanager
def _progress() -> "Iterator[Progress]":
    """A progress bar with source, speed and time left; it appears once it is started."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    try:
        yield progress
    finally:
        if progress.live.is_started:
            progress.stop()
