"""TensorFlow SavedModel: a folder with one signature, run by TensorFlow."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.formats import INPUT, OUTPUT, Loaded, Source
from cifar.formats.graph import serving
from cifar.metrics.classification import Probabilities
from cifar.system import environment, hardware

METADATA_FILE = Path("assets.extra", "cifar.json")


def write(source: Source, path: Path, dtype: str = "uint8") -> None:
    """Write a SavedModel folder; `dtype` is that of the images it takes.

    Raises:
        OSError: the folder cannot be written.
    """
    import tensorflow as tf

    module = serving(source.model, dtype)
    try:
        with hardware.quiet():
            tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    except tf.errors.OpError as error:
        raise OSError(None, error.message, str(path)) from error
    (path / "fingerprint.pb").unlink()  # a random number in it is all that would differ from one process to the next
    (path / METADATA_FILE).parent.mkdir()
    (path / METADATA_FILE).write_text(json.dumps(source.metadata, indent=2) + "\n")


class _Signature:
    """A SavedModel's serving signature."""

    def __init__(self, path: Path, threads: int, device: str) -> None:
        environment.configure(threads, device)
        import tensorflow as tf

        self._tensor = tf.constant
        self._loaded = tf.saved_model.load(str(path))  # the signature does not keep its model alive
        self._signature = self._loaded.signatures["serving_default"]
        self.threads = int(tf.config.threading.get_intra_op_parallelism_threads())
        self.provider = environment.device_of(self._answer(np.zeros((1, 32, 32, 3), np.uint8)))

    def __call__(self, images: NDArray[np.uint8]) -> Probabilities:
        answer: Probabilities = self._answer(images).numpy()
        return answer

    def _answer(self, images: NDArray[np.uint8]) -> Any:
        return self._signature(**{INPUT: self._tensor(images)})[OUTPUT]


def load(path: Path, threads: int, device: str = "cpu") -> Loaded:
    """Load a SavedModel's serving signature."""
    return _Signature(path, threads, device)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a SavedModel."""
    metadata: dict[str, str] = json.loads((path / METADATA_FILE).read_text())
    return metadata
