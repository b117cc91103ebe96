"""The smallest differences that matter, and the file that states them."""

import fnmatch
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cifar.errors import UsageError
from cifar.system.json_files import parse


class RowLimits(BaseModel):
    """The smallest differences of a row that matter.

    Attributes:
        time: relative.
        accuracy: in percentage points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float = Field(0.05, ge=0, le=1e6)
    accuracy: float = Field(0.5, ge=0, le=100)


class Limits(RowLimits):
    """A limits file: the limits of all rows, and exceptions.

    Attributes:
        rows: limits of the rows whose name matches a pattern (`*` matches anything); the first match counts.
    """

    format_version: Literal[1] = 1
    rows: dict[str, RowLimits] = {}

    def for_row(self, name: str) -> RowLimits:
        """The limits of a row."""
        for pattern, row_limits in self.rows.items():
            if fnmatch.fnmatchcase(name, pattern):
                return row_limits
        return self


def read_limits(path: Path) -> Limits:
    """Read a limits file, TOML.

    Raises:
        UsageError: the file does not exist or is not a limits file.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    return parse(Limits, content, path)
