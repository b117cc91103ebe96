"""The smallest differences that matter, and the file that says so."""

import fnmatch
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cifar.errors import UsageError
from cifar.system.json_files import parse


class RowLimits(BaseModel):
    """The smallest differences that matter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float = Field(0.05, ge=0, le=1e6)
    accuracy: float = Field(0.5, ge=0, le=100)


class Limits(RowLimits):
    """A limits file.

    Attributes:
        time: relative.
        accuracy: in points.
        rows: other limits for the rows whose name fits a pattern (`*` stands for anything); the first that fits.
    """

    format_version: Literal[1] = 1
    rows: dict[str, RowLimits] = {}

    def of(self, row: str) -> RowLimits:
        """The limits of a row."""
        return next((limits for pattern, limits in self.rows.items() if fnmatch.fnmatchcase(row, pattern)), self)


def read_limits(path: Path) -> Limits:
    """Read a limits file, TOML.

    Raises:
        UsageError: it is not there, or not such a file.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    return parse(Limits, content, path)
