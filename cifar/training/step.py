"""The training step: Keras's own layers and optimizer, some layers' arithmetic in operations that run faster here.

Mathematically each is the layer that Keras has; the model stays made of Keras's layers, and is scored and saved so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Step = Callable[[NDArray[np.uint8], NDArray[np.float32]], tuple[float, int]]
"""Uint8 images (B, 32, 32, 3) and one-hot targets (B, 10) in; the mean loss and the number of right answers out."""


def compiled(model: Any) -> Step:
    """Return the step of a compiled Keras model: forward, backward, one update of its weights."""
    import keras
    import tensorflow as tf

    weights = model.trainable_variables

    @tf.function(reduce_retracing=False)  # type: ignore[untyped-decorator]
    def step(images: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            probabilities = forward(model, images)
            losses = keras.losses.categorical_crossentropy(targets, probabilities)
            loss = tf.add_n([tf.reduce_mean(losses), *model.losses])
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        model.optimizer.apply(gradients, weights)
        right = tf.equal(tf.argmax(probabilities, axis=1), tf.argmax(targets, axis=1))
        return loss, tf.reduce_sum(tf.cast(right, tf.int32))

    def run(images: NDArray[np.uint8], targets: NDArray[np.float32]) -> tuple[float, int]:
        loss, right = step(tf.constant(images), tf.constant(targets))
        return float(loss), int(right)

    return run


def forward(model: Any, images: Any) -> Any:
    """The probabilities of a Keras model in training, (B, 10), for a tensor of images."""
    import keras
    import tensorflow as tf

    if type(model) is not keras.Sequential:
        return model(images, training=True)
    flowing = tf.cast(images, model.inputs[0].dtype)
    for layer in model.layers:
        if _is_plain_convolution(layer):
            flowing = convolve(layer, flowing)
        elif _is_plain_dropout(layer):
            flowing = drop(layer, flowing)
        else:
            flowing = layer(flowing, training=True)
    return flowing


def _is_plain_convolution(layer: Any) -> bool:
    """Whether `convolve` knows all that a layer does."""
    import keras

    return (
        type(layer) is keras.layers.Conv2D
        and layer.activation is keras.activations.relu
        and layer.use_bias
        and (layer.groups, layer.dilation_rate, layer.data_format) == (1, (1, 1), "channels_last")
        and layer.activity_regularizer is None
        and not layer.lora_enabled
        and layer.compute_dtype == "float32"
    )


def convolve(layer: Any, images: Any) -> Any:
    """A Conv2D layer with bias and ReLU.

    Its bias's gradient is a sum of its own: TensorFlow would else fuse it into the kernel's gradient, which oneDNN
    then takes a third longer for.
    """
    import tensorflow as tf

    how = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(images: Any, kernel: Any, bias: Any) -> Any:
        features = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(images, kernel, **how), bias))

        def gradients(upstream: Any) -> Any:
            inner = tf.raw_ops.ReluGrad(gradients=upstream, features=features)
            return (
                tf.nn.conv2d_transpose(inner, kernel, tf.shape(images), **how),
                tf.raw_ops.Conv2DBackpropFilter(
                    input=images, filter_sizes=tf.shape(kernel), out_backprop=inner, **how
                ),
                tf.reduce_sum(inner, axis=[0, 1, 2]),
            )

        return features, gradients

    return function(images, layer.kernel.value, layer.bias.value)


def _is_plain_dropout(layer: Any) -> bool:
    """Whether `drop` knows all that a layer does; its rate must be a multiple of 1/256."""
    import keras

    return (
        type(layer) is keras.layers.Dropout
        and layer.noise_shape is None
        and 0 < layer.rate * 256 == int(layer.rate * 256)
    )


def drop(layer: Any, values: Any) -> Any:
    """A Dropout layer, one random byte per value where Keras draws four and makes them a float.

    The bytes are those of Philox keyed by the layer's seed, from the counter that the layer counts its calls with.
    """
    import tensorflow as tf

    seed, call = tf.unstack(tf.cast(layer.seed_generator.next(), tf.uint64))
    n = tf.size(values)
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[(n + 3) // 4],
        key=[seed],
        counter=[tf.zeros_like(call), call],  # the low word counts within a call
        alg=tf.random.Algorithm.PHILOX.value,
        dtype=tf.uint32,
    )
    drawn = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:n], tf.shape(values))
    kept = drawn >= tf.constant(int(layer.rate * 256), tf.uint8)
    return tf.where(kept, values / (1 - layer.rate), tf.zeros((), values.dtype))
