"""Answers of model files that nobody vouches for: a child process runs them, and whatever it does ends in time."""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import CifarError, StorageError, last_line, printable
from cifar.formats import FORMATS
from cifar.inference.external import Preprocessing
from cifar.metrics.classification import CLASSES, Probabilities

LIMIT = 3600.0  # seconds for a file
LONGEST = 300  # characters of a runtime's own words that are passed on
POLL = 0.02  # seconds
OURS = "ours"  # in place of a preprocessing: a file that keeps our contract

Pair = tuple[Path, Path]
"""A model file, and where its answer is written."""


class InferenceError(CifarError):
    """A model file has no answer: its runtime refused it, crashed, took too long, or answered something else."""


def answer(
    name: str,
    paths: Sequence[Path],
    images: NDArray[np.uint8],
    threads: int,
    limit: float = LIMIT,
    preprocessing: Preprocessing | None = None,
) -> list[Probabilities]:
    """The probabilities, float32 (N, 10), that each file gives; arguments as of `answers`.

    Raises:
        InferenceError: a file has no answer; it is named.
        StorageError: the temporary folder cannot hold the answers.
    """
    found = []
    for each in answers(name, paths, images, threads, limit, preprocessing):
        if isinstance(each, InferenceError):
            raise each
        found.append(each)
    return found


def answers(
    name: str,
    paths: Sequence[Path],
    images: NDArray[np.uint8],
    threads: int,
    limit: float = LIMIT,
    preprocessing: Preprocessing | None = None,
) -> Iterator[Probabilities | InferenceError]:
    """Let a fresh process with a format's own runtime answer for files of that format, one after another.

    Nothing of the files is read in this process. Where the child dies of a file, another goes on behind it.

    Args:
        name: a key of FORMATS.
        paths: the files.
        images: uint8 (N, 32, 32, 3).
        threads: for the runtime.
        limit: seconds for each file, with the start of the process where there is one.
        preprocessing: of files that are not ours; an empty one if they say it themselves. None for files of ours.

    Yields:
        For each file its probabilities (of others' files the raw outputs), float32 (N, 10), or the error that says
        why it has none.
    """
    with tempfile.TemporaryDirectory(prefix="cifar-answer-") as folder:
        Path(folder, "images.npy").write_bytes(npy(images))
        waiting = [(path, Path(folder, f"{number}.npy")) for number, path in enumerate(paths)]
        while waiting:
            with _Child(name, threads, Path(folder, "images.npy"), preprocessing, waiting) as child:
                while waiting and child.alive:
                    path, saved = waiting.pop(0)
                    failure = child.wait_for(saved, limit)
                    found = failure or _read(saved, len(images))
                    if isinstance(found, str):
                        yield InferenceError(f"{FORMATS[name].runtime} cannot run {path.name}: {found}.")
                    else:
                        yield found


def npy(array: NDArray[Any]) -> bytes:
    """An array as a .npy file; numpy's own writing to a file says nothing of a disk that is full."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


class _Child:
    """A process that answers for files in their order."""

    def __init__(
        self, name: str, threads: int, images: Path, preprocessing: Preprocessing | None, pairs: Sequence[Pair]
    ) -> None:
        words = [str(path) for pair in pairs for path in pair]
        how = OURS if preprocessing is None else preprocessing.to_json()
        command = [sys.executable, "-m", "cifar.formats", name, str(threads), str(images), how, *words]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors
        )
        self.alive = True

    def wait_for(self, saved: Path, limit: float) -> str | None:
        """Wait for an answer to be saved; or end, and return why there is none, in words."""
        deadline = time.monotonic() + limit
        while not saved.exists():
            code = self._process.poll()
            if code is not None and not saved.exists():
                self.alive = False
                return self._words_of_the_end(code)
            if time.monotonic() > deadline:
                self.alive = False
                return f"no answer within {limit:g} s"
            time.sleep(POLL)
        return None

    def _words_of_the_end(self, code: int) -> str:
        if code < 0:
            return f"it was ended by signal {-code}"
        self._errors.seek(0)
        words = _short(last_line(self._errors.read().decode(errors="replace"), f"it ended with code {code}"))
        if code == StorageError.exit_code:
            raise StorageError(words)
        return words

    def __enter__(self) -> "_Child":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()


def _read(saved: Path, n: int) -> Probabilities | str:
    """The answer that a child saved for n images, or what is wrong with it."""
    found = np.load(saved)
    if found.dtype.kind == "U":
        return _short(str(found))
    if found.dtype != np.float32 or found.shape != (n, CLASSES):
        return f"expected float32 {(n, CLASSES)}, it answered {found.dtype} {found.shape}"
    answer: Probabilities = found
    return answer


def _short(words: str) -> str:
    return printable(words.strip(), LONGEST).rstrip(".")
