"""TensorFlow SavedModel: a folder with one signature, run by TensorFlow."""

import json
from pathlib import Path
from typing import Any

from cifar import environment
from cifar.evaluation import Predictor
from cifar.formats import INPUT, OUTPUT
from cifar.formats.graph import serving

METADATA_FILE = Path("assets.extra", "cifar.json")


def write(model: Any, path: Path, metadata: dict[str, str]) -> None:
    """Write a Keras model as a SavedModel folder.

    Raises:
        OSError: the folder cannot be written.
    """
    import tensorflow as tf

    module = serving(model)
    try:
        with environment.quiet():
            tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    except tf.errors.OpError as error:
        raise OSError(None, error.message, str(path)) from error
    (path / METADATA_FILE).parent.mkdir()
    (path / METADATA_FILE).write_text(json.dumps(metadata, indent=2) + "\n")


def load(path: Path, threads: int) -> Predictor:
    """Load a SavedModel's serving signature."""
    environment.configure(threads)
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]

    def predict(images: Any, _owner: Any = loaded) -> Any:  # the signature does not keep its model alive
        return signature(**{INPUT: tf.constant(images)})[OUTPUT].numpy()

    return predict


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a SavedModel."""
    metadata: dict[str, str] = json.loads((path / METADATA_FILE).read_text())
    return metadata
