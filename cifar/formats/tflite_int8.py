"""TFLite in 8-bit integers throughout; the one float operation is the last, which makes probabilities float32.

It is converted from a graph that takes float32 images, 0 to 255: from one that takes bytes, the converter keeps the
scaling to [0, 1] as a float operation.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.formats import Source
from cifar.formats.logits import Logits, output_model_with_range
from cifar.formats.tflite import convert, read_metadata

__all__ = ["read_metadata", "write"]


def write(source: Source, path: Path) -> None:
    """Write a TFLite file whose ranges are the smallest and largest activations of the calibration images.

    The range of the logits is another where `source.logits` says one.
    """
    if isinstance(source.logits, Logits):
        source = replace(source, model=output_model_with_range(source.logits))

    def images() -> Iterator[list[NDArray[np.float32]]]:
        for image in source.calibration:
            yield [image[np.newaxis].astype(np.float32)]

    def in_int8(converter: Any) -> None:
        import tensorflow as tf

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = images
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.float32

    convert(source, path, in_int8, dtype="float32")
