"""TFLite: one flatbuffer. It runs in LiteRT (ai-edge-litert), which needs no TensorFlow."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cifar.formats import Source, saved_model
from cifar.system import hardware

METADATA_NAME = "cifar.json"


def write(source: Source, path: Path) -> None:
    """Write a float32 TFLite file."""
    convert(source, path, lambda _converter: None)


def convert(source: Source, path: Path, adjust: Callable[[Any], None], dtype: str = "uint8") -> None:
    """Write a TFLite file.

    Args:
        source: what it is made from.
        path: the file.
        adjust: sets the options of a tf.lite.TFLiteConverter.
        dtype: of the images that the graph before conversion takes.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as scratch:
        saved_model.write(source, Path(scratch, "model"), dtype)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(scratch, "model")))
        adjust(converter)
        with hardware.quiet(show_failure=False):
            content = converter.convert()
    path.write_bytes(_with_metadata(content, source.metadata))


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a TFLite file."""
    model = parse(path.read_bytes())
    for entry in model.metadata:
        if entry.name == METADATA_NAME.encode():
            metadata: dict[str, str] = json.loads(bytes(model.buffers[entry.buffer].data))
            return metadata
    raise KeyError(METADATA_NAME)


def parse(content: bytes) -> Any:
    """Return the model of a TFLite file as objects of its schema, `ModelT`."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def pack(model: Any, size: int) -> bytes:
    """Return a model as a TFLite file; `size` is that of the buffer to begin with, in bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def operators(path: Path) -> list[str]:
    """Return the kinds of operations in a TFLite file, by TFLite's names, sorted."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = parse(path.read_bytes())
    kinds = {names.get(code.builtinCode, "custom") for code in model.operatorCodes}
    return sorted(kinds)


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    """Append a named buffer; the weights and the graph stay as they are."""
    from ai_edge_litert import schema_py_generated as schema

    model = parse(content)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return pack(model, len(content) + 1024)
