"""Reading .npz files without trust: never unpickled, and unpacked only up to a limit."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError, first_line


def read_npz(path: Path, names: Sequence[str], max_bytes: int) -> list[NDArray[Any]]:
    """Return arrays of an .npz file; its other arrays are not unpacked.

    Args:
        path: the file.
        names: of the arrays.
        max_bytes: that these arrays may have together, unpacked.

    Raises:
        UsageError: the file or an array is missing, damaged, pickled or too large.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as members:
            infos = [members.getinfo(f"{name}.npy") for name in names]
            unpacked_bytes = sum(info.file_size for info in infos)
            if unpacked_bytes > max_bytes:
                raise ValueError(f"{unpacked_bytes:,} bytes unpacked are too many")
            return [_read_array(members, info) for info in infos]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged zip raises many kinds
        raise UsageError(f"{path}: not readable: {first_line(error)}") from error


def _read_array(members: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with members.open(info) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array
