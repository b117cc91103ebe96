"""Answer for files of one format in a process of its own.

    python -m cifar.formats FORMAT THREADS IMAGES.npy FILE ANSWER.npy [FILE ANSWER.npy]...

Writes the float32 probabilities (N, 10) that each FILE gives for the uint8 images to the ANSWER after it.
"""

import sys
from pathlib import Path

import numpy as np

from cifar.evaluation import predict
from cifar.formats import FORMATS


def main(name: str, threads: str, images_file: str, *pairs: str) -> None:
    """Load each file in the format's own runtime and save what it answers."""
    images = np.load(images_file)
    for file, answer in zip(pairs[::2], pairs[1::2], strict=True):
        predictor = FORMATS[name].room.load(Path(file), int(threads))
        np.save(answer, predict(predictor, images))


main(*sys.argv[1:])
