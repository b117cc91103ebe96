"""TensorFlow SavedModel: a folder with one signature."""

import json
from collections.abc import Sequence
from pathlib import Path

from cifar.formats import Source
from cifar.formats.graph import serving
from cifar.system import hardware

METADATA_FILE = Path("assets.extra", "cifar.json")
TENSOR_NUMBER = "_user_specified_name"  # attribute of a function's argument; of a weight it is a tensor's number


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
    _remove_process_numbers(path / "saved_model.pb")
    (path / "fingerprint.pb").unlink()  # it holds a random number
    (path / METADATA_FILE).parent.mkdir()
    (path / METADATA_FILE).write_text(json.dumps(source.metadata, indent=2) + "\n")


def _remove_process_numbers(path: Path) -> None:
    """Number the functions of a graph from 0, so that equal models have equal bytes.

    TensorFlow numbers all functions and tensors of a process: what was traced before would show in the file.
    """
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    functions = saved_model.meta_graphs[0].graph_def.library.function
    for function in functions:
        for argument in function.arg_attr.values():
            argument.attr.pop(TENSOR_NUMBER, None)
    names = [function.signature.name for function in functions]
    text = text_format.MessageToString(saved_model)
    for name, new_name in _renumbered(names).items():
        text = text.replace(f'"{name}"', f'"{new_name}"')
    renamed = text_format.Parse(text, saved_model_pb2.SavedModel())
    renamed.meta_graphs[0].graph_def.library.function.sort(key=lambda function: function.signature.name)
    path.write_bytes(renamed.SerializeToString(deterministic=True))


def _renumbered(names: Sequence[str]) -> dict[str, str]:
    """Return new names for names that end in a number: names that differ in it alone are counted in its order."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        stem, underscore, number = name.rpartition("_")
        if number.isdecimal():
            numbers.setdefault(stem + underscore, []).append(int(number))
    new_names = {}
    for stem, used in numbers.items():
        for new_number, old_number in enumerate(sorted(used)):
            new_names[f"{stem}{old_number}"] = f"{stem}{new_number}"
    return new_names


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a SavedModel."""
    metadata: dict[str, str] = json.loads((path / METADATA_FILE).read_text())
    return metadata
