"""TensorFlow SavedModel: a folder with one signature."""

import json
from pathlib import Path

from cifar.formats import Source
from cifar.formats.graph import serving
from cifar.system import hardware

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
    (path / "fingerprint.pb").unlink()  # it holds a random number, the only bytes that differ between processes
    (path / METADATA_FILE).parent.mkdir()
    (path / METADATA_FILE).write_text(json.dumps(source.metadata, indent=2) + "\n")


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a SavedModel."""
    metadata: dict[str, str] = json.loads((path / METADATA_FILE).read_text())
    return metadata
