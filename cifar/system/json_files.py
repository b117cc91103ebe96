"""Reading JSON files without trust: limited in size, checked field by field, one sentence where they are not ours."""

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from cifar.errors import UsageError, printable

MAX_BYTES = 16 << 20  # our files are thousands of times smaller

Model = TypeVar("Model", bound=BaseModel)
Count = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(ge=0, le=1e39)]  # a loss is a float32; a figure must be able to show it


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON object of at most `max_bytes` bytes.

    Raises:
        UsageError: it is not there, too large, or not a JSON object.
    """
    try:
        content = json.loads(_read_bytes(path, max_bytes))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object, found {type(content).__name__}.")
    return content


def read_lines(kind: type[Model], path: Path, format_version: int | None = None) -> list[Model]:
    """Read a .jsonl file; a file that does not exist has no lines.

    Args:
        kind: the schema of every line.
        path: the file.
        format_version: of every line; None where lines have none.

    Raises:
        UsageError: it cannot be read, is too large, or a line has another schema or format version.
    """
    if not path.exists():
        return []
    lines = _read_bytes(path).splitlines()
    try:
        if format_version is not None:
            for line in lines:
                check_version(_Versioned.model_validate_json(line).model_dump(), path, format_version)
        return [kind.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from error


class _Versioned(BaseModel):
    """A line of which only the format version is read."""

    format_version: Any = None


def parse(kind: type[Model], content: dict[str, Any], path: Path) -> Model:
    """Make a record of a JSON object.

    Raises:
        UsageError: it is not such a record; `path` is where it stands.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from error


def check_version(content: dict[str, Any], path: Path, expected: int) -> None:
    """Raise UsageError unless a file's content, which stands at `path`, says that it is of this format version."""
    version = content.get("format_version")
    if type(version) is not int or version != expected:
        raise UsageError(f"{path}: format_version is {_shown(version)}, this program reads {expected}.")


def _read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """What a file of at most `max_bytes` bytes holds."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise UsageError(f"{path}: {size:,} bytes are too many for a file of ours.")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    place = ".".join(map(str, problem["loc"])) or "content"
    if problem["type"] == "extra_forbidden":
        return f"{place}: this version of cifar-bench knows no such field; a newer one may have written it."
    return f"{place}: {problem['msg']}"


def _shown(value: object) -> str:
    """A value as JSON has it, if it is short; else its type."""
    if value is None or isinstance(value, int | float | str):
        return printable(repr(value), 40)
    return type(value).__name__
