"""`cifar parity`: the same file in several runtimes: which images change their class, and how far outputs differ."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cifar.formats import manifest
from cifar.inference.isolated_prediction import InferenceError, WhatRan, predict_file
from cifar.inference.preprocessing import Preprocessing
from cifar.inference.runtimes import RUNTIMES, check_runtime
from cifar.inference.scoring import TIME_LIMIT, as_probabilities
from cifar.metrics.classification import Probabilities
from cifar.runs.schemas import Digest
from cifar.system import files
from cifar.system.json_files import Count, Share, Size, check_version, parse, read_json

FORMAT_VERSION = 2


class Flip(BaseModel):
    """An image that two runtimes sort into two classes.

    Attributes:
        image: its index in the test set.
        first, second: the classes, counted from 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Count
    first: Count
    second: Count


class Pair(BaseModel):
    """The outputs of two runtimes for the same images.

    Attributes:
        first, second: keys of RUNTIMES.
        is_float32: whether file and runtimes compute in float32 throughout, so that no class may change.
        flips: the images that change their class.
        agreement: the share of images that do not.
        max_difference: the largest absolute difference of a probability.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    first: str
    second: str
    is_float32: bool
    flips: list[Flip]
    agreement: Share
    max_difference: Size


class FileParity(BaseModel):
    """What several runtimes make of one file.

    Attributes:
        sha256: of the file; None for a SavedModel that is in no manifest.
        format: by which it was read, a key of FORMATS.
        precision: of its weights; None for a file that is in no manifest.
        images, data_sha256: how many images of which data.
        versions: by runtime, of those that predicted.
        ran: what computed, by runtime.
        accuracy: by runtime, of the images; None where their classes mean nothing to the model.
        failed: by runtime, why it gave no predictions.
        skipped: by runtime that reads the format and is not installed, what is missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: str
    sha256: Digest | None
    format: str
    precision: str | None
    images: Count
    data_sha256: Digest
    versions: dict[str, str]
    ran: dict[str, WhatRan]
    accuracy: dict[str, Share | None]
    failed: dict[str, str]
    skipped: dict[str, str]
    pairs: list[Pair]

    def excesses(self, max_flips: int | None) -> list[str]:
        """Return a sentence per pair that disagrees on more images than it may.

        Args:
            max_flips: the limit for pairs that do not compute in float32 throughout; None: any number. Others: 0.
        """
        sentences = []
        for pair in self.pairs:
            limit = 0 if pair.is_float32 else max_flips
            if limit is not None and len(pair.flips) > limit:
                sentences.append(
                    f"{self.file}: {pair.first} and {pair.second} disagree on {len(pair.flips)} of {self.images:,} "
                    f"images, at most {limit} may."
                )
        return sentences


class Saved(BaseModel):
    """A file NAME.parity.json."""

    model_config = ConfigDict(allow_inf_nan=False)

    format_version: int
    parity: FileParity


@dataclass(frozen=True)
class Images:
    """The images that every runtime predicts.

    Attributes:
        images: uint8 (N, 32, 32, 3).
        labels: their classes, (N,); None where they mean nothing to the model.
        sha256: digest of the data that they are of.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None
    sha256: str


def runtimes_for(format_name: str, wanted: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Return the runtimes that read a format, and why others that do are skipped.

    Args:
        format_name: a key of FORMATS.
        wanted: keys of RUNTIMES; None for all that are installed.

    Raises:
        cifar.errors.UsageError: a wanted runtime is not installed, or none of them reads the format.
    """
    if wanted is None:
        readers = [name for name, runtime in RUNTIMES.items() if runtime.reads(format_name, is_named=False)]
        skipped = {}
        for name in readers:
            missing = RUNTIMES[name].missing
            if missing is not None:
                skipped[name] = missing
        return [name for name in readers if name not in skipped], skipped
    readers = [name for name in wanted if format_name in RUNTIMES[name].formats]
    for name in readers or wanted:
        check_runtime(name, format_name)
    return readers, {}


def compare_runtimes(
    path: Path,
    format_name: str,
    wanted: Sequence[str] | None,
    data: Images,
    preprocessing: Preprocessing,
    threads: int,
    advance: Callable[[int], None] = lambda _images: None,
) -> FileParity:
    """Run a file in each runtime, in a process of its own, and compare the outputs pair by pair.

    Args:
        path: the file.
        format_name: by which it is read.
        wanted: as of `runtimes_for`.
        data: what is predicted.
        preprocessing: how the file scales pixels; an empty one for what it says itself.
        threads: of each runtime.
        advance: is called with the number of images after each batch.

    Raises:
        cifar.errors.UsageError: as of `runtimes_for`; or the file does not say how it scales pixels, or is not the
            one that its manifest describes.
    """
    entry = manifest.verify_checksum(path)
    names, skipped = runtimes_for(format_name, wanted)
    outputs: dict[str, Probabilities] = {}
    failed = {}
    ran: dict[str, WhatRan] = {}
    for name in names:
        try:
            raw = predict_file(
                format_name,
                path,
                data.images,
                threads,
                TIME_LIMIT,
                preprocessing,
                advance,
                name,
                partial(ran.__setitem__, name),
            )
            outputs[name] = as_probabilities(raw)[1]
        except InferenceError as error:
            failed[name] = str(error)
    precision = entry.precision if entry else None
    pairs = []
    for first, second in combinations(outputs, 2):
        pairs.append(_compare(first, second, outputs, precision))
    return FileParity(
        file=path.name,
        sha256=entry.sha256 if entry else None,
        format=entry.format if entry else format_name,
        precision=precision,
        images=len(data.images),
        data_sha256=data.sha256,
        versions={name: RUNTIMES[name].version for name in outputs},
        ran=ran,
        accuracy={name: _accuracy(predicted, data.labels) for name, predicted in outputs.items()},
        failed=failed,
        skipped=skipped,
        pairs=pairs,
    )


def _compare(first: str, second: str, outputs: dict[str, Probabilities], precision: str | None) -> Pair:
    classes = outputs[first].argmax(axis=1), outputs[second].argmax(axis=1)
    flips = []
    for image in np.flatnonzero(classes[0] != classes[1]):
        flips.append(Flip(image=int(image), first=int(classes[0][image]), second=int(classes[1][image])))
    precisions = {precision, RUNTIMES[first].precision, RUNTIMES[second].precision}
    return Pair(
        first=first,
        second=second,
        is_float32=precisions == {"float32"},
        flips=flips,
        agreement=1 - len(flips) / len(classes[0]),
        max_difference=float(np.abs(outputs[first] - outputs[second]).max()),
    )


def _accuracy(predicted: Probabilities, labels: NDArray[np.uint8] | None) -> float | None:
    if labels is None:
        return None
    return float((predicted.argmax(axis=1) == labels).mean())


def path_of(file: Path) -> Path:
    """Return where the comparison of a file is kept."""
    return file.with_name(f"{file.name}.parity.json")


def write(file: Path, parity: FileParity) -> Path:
    """Write the comparison of a file beside it; return where.

    Raises:
        cifar.errors.StorageError: it cannot be written.
    """
    content = {"format_version": FORMAT_VERSION, "parity": parity.model_dump()}
    path = path_of(file)
    files.write(path, json.dumps(content) + "\n")
    return path


def read(file: Path) -> FileParity | None:
    """Return the comparison that lies beside a file, which need not exist any more; None where there is none.

    Raises:
        cifar.errors.UsageError: it is damaged.
    """
    path = path_of(file)
    if not path.exists():
        return None
    content = read_json(path)
    check_version(content, path, FORMAT_VERSION)
    return parse(Saved, content, path).parity
