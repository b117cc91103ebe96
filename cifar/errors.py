"""The errors a user can cause or meet, each with the exit code that README.md documents."""

import difflib
from collections.abc import Collection
from pathlib import Path


class CifarError(Exception):
    """One clear sentence for the user. Exit code 1: the work was done and its result is bad."""

    exit_code = 1


class UsageError(CifarError):
    """The request cannot be met as asked: an unknown name, a folder that is not a run. Exit code 2."""

    exit_code = 2


class DataError(CifarError):
    """The data set is missing, damaged or not what it says it is. Exit code 3."""

    exit_code = 3


class NotFoundError(DataError):
    """No copy of cifar10 was named, none is cached, none could be fetched."""


class StorageError(CifarError):
    """A file could not be written. Exit code 4."""

    exit_code = 4

    @classmethod
    def of(cls, path: Path, error: OSError) -> "StorageError":
        """The error of a failed write to `path`."""
        return cls(f"{path}: cannot be written: {error.strerror or error}")


class BusyError(CifarError):
    """Another process holds the run. Exit code 5."""

    exit_code = 5


def printable(text: str, limit: int = 2000) -> str:
    """A text that may come from a hostile file as one line: control characters are `?`, and it ends at `limit`."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text[:limit])
    return line if len(text) <= limit else f"{line}…"


def last_line(text: str, nothing: str = "no message") -> str:
    """The last line of what a program said, where it tends to give its reason; `nothing` if it said nothing."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), nothing)


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its type if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def one_of(what: str, value: str, valid: Collection[str], also: str = "") -> str:
    """Return `value` if it is one of `valid`.

    Raises:
        UsageError: it is not; the message names the nearest valid one and lists them all.
    """
    if value in valid:
        return value
    near = difflib.get_close_matches(value, valid, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"There is no {what} '{value}'.{hint} Valid: {', '.join(valid)}{also}.")
