"""The TensorFlow graph that every format is written from."""

from typing import Any

import numpy as np

from cifar.formats import INPUT, OUTPUT


def serving(model: Any, dtype: str = "uint8") -> Any:
    """Return a tf.Module with a Keras model's weights and `serve`, a tf.function that keeps the contract.

    The weights are listed by value: with the model itself as an attribute a TFLite file comes out without any.

    Args:
        model: a Keras model.
        dtype: of the images that `serve` takes; always 0 to 255.
    """
    import tensorflow as tf

    fixed = _with_fixed_flatten(model, dtype)
    signature = [tf.TensorSpec((None, 32, 32, 3), dtype, name=INPUT)]
    module = tf.Module()
    module.weights = [weight.value for weight in fixed.weights]
    module.serve = tf.function(lambda image: {OUTPUT: fixed(image, training=False)}, input_signature=signature)
    return module


def _with_fixed_flatten(model: Any, dtype: str) -> Any:
    """A copy whose Flatten layers reshape to a width known beforehand, and whose input is float32 if that is asked.

    The graph is smaller and the same in every process. A model that cannot be copied layer by layer (a subclass) is
    returned as it is.
    """
    import keras

    class FixedFlatten(keras.layers.Flatten):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return keras.ops.reshape(inputs, (-1, int(np.prod(inputs.shape[1:]))))

    def copy(layer: Any) -> Any:
        kind = FixedFlatten if type(layer) is keras.layers.Flatten else type(layer)
        return kind.from_config(layer.get_config())

    image = keras.Input((32, 32, 3), dtype=dtype, name=INPUT) if dtype == "float32" else None
    try:
        fixed = keras.models.clone_model(model, input_tensors=image, clone_function=copy)
        fixed.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError):
        return model
    return fixed
