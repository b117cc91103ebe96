"""TFLite: one flatbuffer, run by LiteRT (ai-edge-litert), which needs no TensorFlow."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cifar import environment
from cifar.evaluation import Predictor
from cifar.formats import INPUT, OUTPUT, saved_model

METADATA_NAME = "cifar.json"


def write(model: Any, path: Path, metadata: dict[str, str]) -> None:
    """Write a Keras model as a float32 TFLite file."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as scratch:
        saved_model.write(model, Path(scratch, "model"), metadata)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(scratch, "model")))
        with environment.quiet():
            content = converter.convert()
    path.write_bytes(_with_metadata(content, metadata))


def load(path: Path, threads: int) -> Predictor:
    """Load a TFLite file's serving signature in LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    with environment.quiet():
        runner = Interpreter(str(path), num_threads=threads).get_signature_runner("serving_default")

    def predict(images: Any) -> Any:
        return np.array(runner(**{INPUT: images})[OUTPUT])

    return predict


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a TFLite file."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    entry = next(entry for entry in model.metadata if entry.name == METADATA_NAME.encode())
    metadata: dict[str, str] = json.loads(bytes(model.buffers[entry.buffer].data))
    return metadata


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    """Append a named buffer; the weights and the graph stay as they are."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
