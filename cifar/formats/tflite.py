"""TFLite: one flatbuffer, run by LiteRT (ai-edge-litert), which needs no TensorFlow."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.formats import Loaded, Source, saved_model
from cifar.metrics.classification import Probabilities
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


def start(path: Path, threads: int) -> tuple[Any, int, str]:
    """LiteRT's interpreter of a file, its tensors allocated; how many threads compute, and what computes."""
    from ai_edge_litert.interpreter import Interpreter

    with hardware.count_threads() as started, hardware.quiet():
        interpreter = Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
    operations = {operation["op_name"] for operation in interpreter._get_ops_details()}
    return interpreter, 1 + started(), "XNNPACK" if "DELEGATE" in operations else "built-in kernels"


class _Interpreter:
    """A TFLite file in LiteRT, its tensors sized for the latest batch."""

    def __init__(self, path: Path, threads: int) -> None:
        self._interpreter, self.threads, self.provider = start(path, threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._batch = 1

    def __call__(self, images: NDArray[np.uint8]) -> Probabilities:
        if len(images) != self._batch:
            self._batch = len(images)
            self._interpreter.resize_tensor_input(self._input, images.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input, images)
        self._interpreter.invoke()
        answer: Probabilities = self._interpreter.get_tensor(self._output)
        return answer


def load(path: Path, threads: int, device: str = "cpu") -> Loaded:
    """Load a TFLite file in LiteRT."""
    assert device == "cpu", device
    return _Interpreter(path, threads)


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
