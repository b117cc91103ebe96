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
    source = replace(source, model=_with_means(source.model))

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


def _with_means(model: Any) -> Any:
    """Return a copy of a Keras model in which average pooling of the whole image is a mean over it.

    TFLite gives the outputs of AVERAGE_POOL_2D the range of its inputs, of which averages use a small part; those of
    MEAN have their own. A model that cannot be copied layer by layer (a subclass) is returned as it is.
    """
    import keras

    def averages_all(layer: Any) -> bool:
        return type(layer) is keras.layers.AveragePooling2D and layer.pool_size == layer.input.shape[1:3]

    def copy(layer: Any) -> Any:
        if averages_all(layer):
            return keras.layers.GlobalAveragePooling2D(keepdims=True, name=layer.name)
        return type(layer).from_config(layer.get_config())

    if not any(averages_all(layer) for layer in model.layers):
        return model
    try:
        with_means = keras.models.clone_model(model, clone_function=copy)
        with_means.set_weights(model.get_weights())
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return model
    return with_means
