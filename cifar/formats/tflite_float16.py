"""TFLite with float16 weights: half the size; LiteRT computes in float32."""

from pathlib import Path
from typing import Any

from cifar.formats import Source
from cifar.formats.tflite import convert, read_metadata

__all__ = ["read_metadata", "write"]


def write(source: Source, path: Path) -> None:
    """Write a TFLite file with float16 weights."""
    convert(source, path, _in_float16)


def _in_float16(converter: Any) -> None:
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
