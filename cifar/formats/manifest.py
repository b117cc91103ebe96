"""manifest.json: a line for every exported file of a folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cifar.errors import UsageError
from cifar.runs.schemas import Digest
from cifar.system import files
from cifar.system.json_files import Count, Share, Size, check_version, read_json

FORMAT_VERSION = 1
NAME = "manifest.json"


class ManifestEntry(BaseModel):
    """One exported file, what it was made from, and what its own runtime answered for the whole test set.

    Attributes:
        accuracy, n_test: of the file, on how many test images.
        agreement: share of them with the same top class as the Keras model.
        max_difference: of any probability.
        precision: of the weights.
        parameters: of the network; None in manifests of before.
        multiply_adds: of convolutions and dense layers, per image; None where they cannot be counted.
        calibration: indices of the training images that gave int8 its ranges; None for other precisions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: Annotated[str, Field(pattern=r"^[^/\\\x00]*[^/\\\x00.]$", max_length=255)]  # in the manifest's own folder
    format: str
    bytes: Count
    sha256: Digest
    network: str
    augment: str
    seed: Count
    weights_sha256: str
    dataset: str
    official: bool | None
    data_sha256: str
    accuracy: Share
    n_test: Count
    agreement: Share
    max_difference: Size
    outputs_sha256: str
    runtime: str
    runtime_version: str
    precision: str = "float32"
    parameters: Count | None = None
    multiply_adds: Count | None = None
    calibration: list[Count] | None = None


def read(folder: Path) -> list[ManifestEntry]:
    """The lines of a folder's manifest.

    Raises:
        UsageError: it is not there, not ours, or of another format version.
    """
    path = folder / NAME
    content = read_json(path)
    check_version(content, path, FORMAT_VERSION)
    try:
        return [ManifestEntry.model_validate(line) for line in content["models"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not a manifest of ours.") from error


def of_weights(folder: Path, weights_sha256: str) -> list[ManifestEntry]:
    """The lines of a folder's manifest that are about these weights, files that are gone too; [] without a manifest.

    Raises:
        UsageError: the manifest is not ours, or of another format version.
    """
    lines = read(folder) if (folder / NAME).exists() else []
    return [line for line in lines if line.weights_sha256 == weights_sha256]


def verify_checksum(path: Path) -> ManifestEntry | None:
    """The line of the manifest beside a model file; None where no manifest stands beside it or none lists it.

    Raises:
        UsageError: the manifest is damaged, or the file is not the one that it describes.
    """
    if not (path.parent / NAME).exists():
        return None
    line = next((line for line in read(path.parent) if line.file == path.name), None)
    if line and (not path.exists() or files.sha256(path) != line.sha256):
        raise UsageError(f"{path}: not the file that its manifest describes: its SHA-256 differs.")
    return line


@contextmanager
def locked_entries(folder: Path) -> Iterator[dict[str, ManifestEntry]]:
    """A folder's lines by file name, written back when the block ends; held against other processes."""
    with files.locked_dir(folder):
        lines = {line.file: line for line in read(folder)} if (folder / NAME).exists() else {}
        yield lines
        save(folder, lines)


def save(folder: Path, lines: dict[str, ManifestEntry]) -> None:
    """Write a folder's lines; for whoever holds it."""
    models = [lines[name].model_dump() for name in sorted(lines)]
    files.write(folder / NAME, json.dumps({"format_version": FORMAT_VERSION, "models": models}, indent=2) + "\n")
