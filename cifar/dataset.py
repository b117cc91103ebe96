"""The data set as arrays: found, downloaded or drawn, and checked."""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cifar import archive, synthetic
from cifar.errors import DataError, UsageError, printable
from cifar.files import folder_for, lock, sha256

PUBLISHED_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds for the next LEAST bytes
LEAST = 64 << 10
LONGEST = 300  # characters of a server's own words that are passed on
MOST = 170_498_071  # bytes of the published archive
UNTIL_FREE = -1.0  # wait for a lock however long it is held
INCOMING = ".incoming-"  # folders of downloads under way
TRAIN, TEST = 50_000, 10_000  # images of cifar10
SYNTHETIC_TRAIN, SYNTHETIC_TEST = 4_000, 1_000

Note = Callable[[str], None]
Name = Literal["cifar10", "synthetic"]


@dataclass(frozen=True)
class Dataset:
    """Images and labels.

    Attributes:
        name: `cifar10` or `synthetic`.
        official: whether every byte is the published one; None for synthetic data.
        class_names: the ten names, in label order.
        x_train, x_test: uint8, (N, 32, 32, 3), RGB.
        y_train, y_test: uint8, (N,).
    """

    name: Name
    official: bool | None
    class_names: tuple[str, ...]
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the bytes of training images, training labels, test images, test labels."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def head(self, n: int | None) -> "Dataset":
        """The same data with only the first n training images (all for None). The test set stays whole."""
        return replace(self, x_train=self.x_train[:n], y_train=self.y_train[:n])

    def facts(self) -> dict[str, Any]:
        """What a result must say of its data."""
        return {
            "name": self.name,
            "official": self.official,
            "sha256": self.sha256,
            "n_train": len(self.x_train),
            "n_test": len(self.x_test),
        }


def load(choice: str, data_dir: Path | None, note: Note) -> Dataset:
    """Load the data set that `--data` names.

    Args:
        choice: `cifar10`, `synthetic`, or `auto`: cifar10 where it is or can be fetched, else synthetic.
        data_dir: where the user says that cifar10 is (else CIFAR10_DIR).
        note: is told, in a sentence, whatever the user has to know.

    Raises:
        DataError: cifar10 was asked for or named and is not to be had, or it is damaged.
    """
    if choice == "synthetic":
        if data_dir is not None:
            raise UsageError("--data-dir says where cifar10 is; it cannot go with --data synthetic.")
        return draw_synthetic()
    try:
        return load_cifar10(data_dir, note)
    except NotFoundError as error:
        if choice == "cifar10":
            raise
        note(f"CIFAR-10 is not to be had. {error}")
        return draw_synthetic()


class NotFoundError(DataError):
    """No copy of cifar10 was named, none is cached, none could be fetched."""


def draw_synthetic(n_train: int = SYNTHETIC_TRAIN, n_test: int = SYNTHETIC_TEST, seed: int = 0) -> Dataset:
    """Draw the synthetic data set (see cifar.synthetic)."""
    x_train, y_train = synthetic.draw(n_train, seed, split=0)
    x_test, y_test = synthetic.draw(n_test, seed, split=1)
    return Dataset("synthetic", None, synthetic.CLASS_NAMES, x_train, y_train, x_test, y_test)


def load_cifar10(data_dir: Path | None, note: Note, download: bool = True) -> Dataset:
    """Read cifar10 from the place named, else the project's cache, else Keras's cache, else from the network.

    A copy that is not the published one is used only where the user named it, and said so.

    Raises:
        NotFoundError: there is none.
        DataError: the one named is damaged.
    """
    named = data_dir or (Path(os.environ["CIFAR10_DIR"]) if os.environ.get("CIFAR10_DIR") else None)
    if named is not None:
        dataset = _read(named_copy(named), note)
        if not dataset.official:
            note(
                f"{named} is not the published CIFAR-10, bit for bit; going on because it was named. "
                f"Its digest: {dataset.sha256}"
            )
        return dataset
    for path in cached_copies():
        try:
            dataset = _read(path, note)
        except DataError as error:
            note(f"Passed over a damaged copy. {error}")
            continue
        if dataset.official:
            return dataset
        note(f"{path} is not the published CIFAR-10 and was passed over; name it with --data-dir to use it.")
    if not download:
        raise NotFoundError("cifar10 is not on this machine; --data-dir or CIFAR10_DIR say where a copy is.")
    return _read(fetch(note), note)


def named_copy(place: Path) -> Path:
    """Return the data's own path for a place that the user named: its folder, its archive, or what holds either.

    Raises:
        DataError: there is no such place, or nothing of CIFAR-10 in it.
    """
    try:
        if place.is_file():
            return place
        for path in (place / archive.FOLDER, place / archive.ARCHIVE):
            if path.exists():
                return path
        if any((place / name).exists() for name in archive.FILES_MD5):
            return place
        found = "no such folder" if not place.exists() else "neither"
    except OSError as error:  # a place that may not be looked into
        found = error.strerror or f"{error}"
    raise DataError(f"{place}: expected {archive.FOLDER}/ or {archive.ARCHIVE} there, found {found}.")


def cache() -> Path:
    """The project's own cache folder."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cifar-bench"))


def cached_copies() -> Iterator[Path]:
    """The copies on this machine that nobody named: the project's cache, then Keras's."""
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets"
    for path in (
        cache() / archive.ARCHIVE,
        keras_home / archive.FOLDER,
        keras_home / "cifar-10-batches-py-target" / archive.FOLDER,
        keras_home / f"{archive.FOLDER}.tar.gz",
    ):
        if path.exists():
            yield path


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


def _read(path: Path, note: Note) -> Dataset:
    """Read a copy of cifar10 and assert that it is all there. Takes seconds: every byte is checked."""
    note(f"Reading {path}")
    (x_train, y_train), (x_test, y_test), official = archive.read(path)
    if (len(x_train), len(x_test)) != (TRAIN, TEST):
        raise DataError(f"{path}: expected {TRAIN}/{TEST} images, found {len(x_train)}/{len(x_test)}.")
    return Dataset("cifar10", official, archive.CLASS_NAMES, x_train, y_train, x_test, y_test)
