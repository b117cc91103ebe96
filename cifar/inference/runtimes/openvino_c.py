"""Our ONNX and TFLite files in a C program: exports/examples/c, built with OpenVINO's C headers."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.formats import INPUT, OUTPUT
from cifar.inference.runtimes import C_PROGRAM, Tensor
from cifar.inference.runtimes.program import ProgramSession
from cifar.metrics.classification import CLASSES


class Session(ProgramSession):
    """A file that keeps our contract; for each image it replies with a line: class, milliseconds, probabilities."""

    def __init__(self, path: Path, threads: int, device: str) -> None:
        assert device == "cpu", device
        super().__init__([str(C_PROGRAM.found), str(path), str(threads)], "OpenVINO C, float32")
        self.threads = threads
        self.input = Tensor(INPUT, np.dtype(np.uint8), (None, 32, 32, 3))
        self.output = Tensor(OUTPUT, np.dtype(np.float32), (None, CLASSES))
        self(np.zeros((1, 32, 32, 3), np.uint8))  # it says now if it cannot run the file

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return probabilities, float32 (N, 10), of bytes (N, 32, 32, 3), image by image."""
        return np.stack([self._classify(image) for image in batch])

    def _classify(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.write(image.tobytes())
        line = self.stdout.readline()
        if not line:
            raise self.failure()
        _, duration, *probabilities = line.split()
        self.seconds += float(duration) / 1000
        return np.array(probabilities, np.float32)
