"""Answer for files of one format in a process of its own.

    python -m cifar.formats FORMAT THREADS IMAGES.npy READING FILE ANSWER.npy [FILE ANSWER.npy]...

Writes the float32 probabilities (N, 10) that each FILE gives for the uint8 images to the ANSWER after it, or why it
gives none, as text. READING is `ours`, or that of files of others, whose raw outputs are written. An ANSWER appears
when it is whole, so those that are there tell how far this process got.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import StorageError, first_line
from cifar.formats import FORMATS
from cifar.inference import external
from cifar.inference.external import Preprocessing
from cifar.inference.prediction import OURS, npy
from cifar.metrics.classification import predict
from cifar.system import files


def main(name: str, threads: str, images_file: str, preprocessing: str, *pairs: str) -> None:
    """Load each file in the format's own runtime and save what it answers."""
    images = np.load(images_file)
    for file, answer in zip(pairs[::2], pairs[1::2], strict=True):
        files.write(Path(answer), npy(_answer(name, Path(file), int(threads), images, preprocessing)))


def _answer(name: str, path: Path, threads: int, images: NDArray[np.uint8], preprocessing: str) -> NDArray[Any]:
    """Its probabilities or raw outputs, or why there are none."""
    room = FORMATS[name].module
    try:
        if hasattr(room, "examine"):
            room.examine(path)
        if preprocessing == OURS:
            return predict(room.load(path, threads), images)
        return predict(external.load(name, path, threads, Preprocessing.from_json(preprocessing)), images)
    except Exception as error:  # a runtime raises what it likes of a damaged file
        return np.array(f"{type(error).__name__}: {first_line(error)}")


try:
    main(*sys.argv[1:])
except StorageError as error:  # told by the exit code
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
