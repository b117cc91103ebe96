"""The errors that users can cause or meet, each with its exit code (see README.md), and text for error messages."""

import difflib
from collections.abc import Collection
from pathlib import Path


class CifarError(Exception):
    """An error whose message is a sentence for the user. Exit code 1: the work was done and its result is bad."""

    exit_code = 1


class UsageError(CifarError):
    """The request is invalid: an unknown name, a folder that is not a run. Exit code 2."""

    exit_code = 2


class DataError(CifarError):
    """The data set is missing, damaged or mislabelled. Exit code 3."""

    exit_code = 3


class NotFoundError(DataError):
    """No copy of cifar10 is named or cached, and none can be downloaded."""


class StorageError(CifarError):
    """A file could not be written. Exit code 4."""

    exit_code = 4

    @classmethod
    def of(cls, path: Path, error: OSError) -> "StorageError":
        """The error of a failed write to `path`."""
        return cls(f"{path}: cannot be written: {error.strerror or error}")


class BusyError(CifarError):
    """Another process has locked the run. Exit code 5."""

    exit_code = 5


class NotComparableError(CifarError):
    """Results of different environments, which need not be equal: the message states the distance. Exit code 6."""

    exit_code = 6


def printable(text: str, limit: int = 2000) -> str:
    """Untrusted text as one line: control characters become `?`, and it is cut off after `limit` characters."""
    line = ""
    for character in text[:limit]:
        line += character if character.isprintable() else "?"
    if len(text) > limit:
        line += "…"
    return line


def last_line(text: str, default: str = "no message") -> str:
    """The last line of a program's output that is not blank, where errors are usually explained; else `default`."""
    lines = text.strip().splitlines()
    if not lines:
        return default
    return lines[-1].strip()


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not blank; the name of its type if there is none."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return lines[0].strip()


def one_of(what: str, value: str, valid: Collection[str], also: str = "") -> str:
    """Return `value` if it is one of `valid`.

    Args:
        what: the kind of thing that it names, for the message.
        value: the name.
        valid: all names.
        also: what else would be valid, at the end of the message.

    Raises:
        UsageError: it is not; the message suggests the nearest valid name and lists them all.
    """
    if value in valid:
        return value
    hint = ""
    for nearest in difflib.get_close_matches(value, valid, n=1, cutoff=0.5):
        hint = f" Did you mean '{nearest}'?"
    raise UsageError(f"There is no {what} '{printable(value, 100)}'.{hint} Valid: {', '.join(valid)}{also}.")
