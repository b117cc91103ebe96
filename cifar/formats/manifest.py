"""manifest.json: an entry for every exported file of a folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cifar.errors import UsageError
from cifar.formats import FORMATS
from cifar.runs.schemas import Digest
from cifar.system import files
from cifar.system.json_files import Count, Share, Size, check_version, parse, read_json

FORMAT_VERSION = 2
NAME = "manifest.json"


class LogitsEntry(BaseModel):
    """How the logits of an int8 file are quantised.

    Attributes:
        centred: whether their mean over the classes was subtracted in the last kernel and bias.
        range: lowest and highest value; what lies outside is clipped. None: the extremes of the calibration images.
        reason: why they are not centred.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    centred: bool
    range: tuple[float, float] | None = None
    reason: str | None = None


class ManifestEntry(BaseModel):
    """One exported file: what it was made from, and what its own runtime predicted for the whole test set.

    Attributes:
        file: its name, in the manifest's own folder.
        accuracy, n_test: of the file, on how many test images.
        agreement: share of them with the same top class as the Keras model.
        max_difference: the largest absolute difference of any probability from the Keras model's.
        outputs_sha256: digest of the probabilities, see `classification.sha256`.
        instruction_sets: of the processor that predicted; None in a manifest from before they were recorded.
        precision: of the weights.
        parameters: of the network; None where they were not counted.
        multiply_adds: of convolutions and dense layers, per image; None where they cannot be counted.
        calibration: indices of the training images that gave int8 its ranges; None for other precisions.
        logits: how they are quantised; None for other precisions, and in a manifest from before it was recorded.
        keep_float: layers of an int8 file that compute in float32, at the user's wish.
        top1_sha256: of NAME.top1.npz; None in a manifest from before it was kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: Annotated[str, Field(pattern=r"^[^/\\\x00]*[^/\\\x00.]$", max_length=255)]
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
    instruction_sets: list[str] | None = None
    precision: str = "float32"
    parameters: Count | None = None
    multiply_adds: Count | None = None
    calibration: list[Count] | None = None
    logits: LogitsEntry | None = None
    keep_float: list[str] = []
    top1_sha256: Digest | None = None

    @property
    def stem(self) -> str:
        """The file's name without the suffix of its format: the name of the run that it was exported from."""
        if self.format not in FORMATS:
            return self.file
        return self.file.removesuffix(FORMATS[self.format].suffix)


class Manifest(BaseModel):
    """A manifest.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: int
    models: list[ManifestEntry]


def read(folder: Path) -> list[ManifestEntry]:
    """Return the entries of a folder's manifest.

    Raises:
        UsageError: there is no manifest, it is not ours, or of another format version.
    """
    path = folder / NAME
    content = read_json(path)
    check_version(content, path, FORMAT_VERSION)
    return parse(Manifest, content, path).models


def read_if_present(folder: Path) -> list[ManifestEntry]:
    """Return the entries of a folder's manifest; none without a manifest. Errors as of `read`."""
    if not (folder / NAME).exists():
        return []
    return read(folder)


def of_weights(folder: Path, weights_sha256: str) -> list[ManifestEntry]:
    """Return the entries of files with these weights, deleted files too. Errors as of `read`."""
    return [entry for entry in read_if_present(folder) if entry.weights_sha256 == weights_sha256]


def verify_checksum(path: Path) -> ManifestEntry | None:
    """Return the entry of the manifest beside a model file; None without a manifest or an entry.

    Raises:
        UsageError: the manifest is damaged, or the file is not the one that it describes.
    """
    for entry in read_if_present(path.parent):
        if entry.file == path.name:
            if not path.exists() or files.sha256(path) != entry.sha256:
                raise UsageError(f"{path}: not the file that its manifest describes: its SHA-256 differs.")
            return entry
    return None


@contextmanager
def locked_entries(folder: Path) -> Iterator[dict[str, ManifestEntry]]:
    """Lock a folder and yield its entries by file name; they are written back when the block ends."""
    with files.locked_dir(folder):
        entries = {entry.file: entry for entry in read_if_present(folder)}
        yield entries
        save(folder, entries)


def save(folder: Path, entries: dict[str, ManifestEntry]) -> None:
    """Write the manifest of a folder that the caller has locked."""
    models = [entries[name].model_dump() for name in sorted(entries)]
    content = {"format_version": FORMAT_VERSION, "models": models}
    files.write(folder / NAME, json.dumps(content, indent=2) + "\n")
