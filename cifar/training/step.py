"""The training step on TensorFlow: Keras's layers and optimizer, with faster operations for some of the layers.

Each of these operations computes what the Keras layer computes. The model itself consists of Keras's layers, and is
scored and saved as such.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

TrainStep = Callable[[NDArray[np.uint8], NDArray[np.float32]], tuple[float, int]]
"""Images (B, 32, 32, 3) and one-hot targets (B, 10) in; the mean loss and the number of correct predictions out."""


def compile_step(model: Any, label_smoothing: float = 0.0) -> TrainStep:
    """Return the training step of a compiled Keras model: forward, backward, one update of its weights.

    Args:
        model: the Keras model.
        label_smoothing: the part of the targets that all classes share.
    """
    import keras
    import tensorflow as tf

    weights = model.trainable_variables

    @tf.function(reduce_retracing=False)  # type: ignore[untyped-decorator]
    def step(images: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            probabilities = forward(model, images)
            losses = keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=label_smoothing)
            loss = tf.add_n([tf.reduce_mean(losses), *model.losses])
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        model.optimizer.apply(gradients, weights)
        correct = tf.equal(tf.argmax(probabilities, axis=1), tf.argmax(targets, axis=1))
        return loss, tf.reduce_sum(tf.cast(correct, tf.int32))

    def train_step(images: NDArray[np.uint8], targets: NDArray[np.float32]) -> tuple[float, int]:
        loss, correct = step(tf.constant(images), tf.constant(targets))
        return float(loss), int(correct)

    return train_step


def forward(model: Any, images: Any) -> Any:
    """Return the probabilities (B, 10) of a Keras model in training for a tensor of images (B, 32, 32, 3)."""
    import keras
    import tensorflow as tf

    if type(model) is not keras.Sequential:
        return model(images, training=True)
    features = tf.cast(images, model.inputs[0].dtype)
    for layer in model.layers:
        if _is_plain_convolution(layer):
            features = convolve(layer, features)
        elif _is_plain_dropout(layer):
            features = drop(layer, features)
        else:
            features = layer(features, training=True)
    return features


def _is_plain_convolution(layer: Any) -> bool:
    """Whether `convolve` computes the same as a layer."""
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
    """Return the output of a Conv2D layer with bias and ReLU.

    The gradient of the bias is computed on its own. Otherwise TensorFlow fuses it into the gradient of the kernel,
    which takes oneDNN a third longer.
    """
    import tensorflow as tf

    settings = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(images: Any, kernel: Any, bias: Any) -> Any:
        features = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(images, kernel, **settings), bias))

        def gradients(upstream: Any) -> Any:
            relu_gradient = tf.raw_ops.ReluGrad(gradients=upstream, features=features)
            images_gradient = tf.nn.conv2d_transpose(relu_gradient, kernel, tf.shape(images), **settings)
            kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
                input=images, filter_sizes=tf.shape(kernel), out_backprop=relu_gradient, **settings
            )
            bias_gradient = tf.reduce_sum(relu_gradient, axis=[0, 1, 2])
            return images_gradient, kernel_gradient, bias_gradient

        return features, gradients

    return function(images, layer.kernel.value, layer.bias.value)


def _is_plain_dropout(layer: Any) -> bool:
    """Whether `drop` computes the same as a layer; its rate must be a multiple of 1/256."""
    import keras

    return (
        type(layer) is keras.layers.Dropout
        and layer.noise_shape is None
        and 0 < layer.rate * 256 == int(layer.rate * 256)
    )


def drop(layer: Any, values: Any) -> Any:
    """Return the output of a Dropout layer, from one random byte per value where Keras draws a float of four bytes.

    The bytes come from Philox: the key is the layer's seed, the counter is the number of the layer's calls.
    """
    import tensorflow as tf

    seed, call = tf.unstack(tf.cast(layer.seed_generator.next(), tf.uint64))
    n = tf.size(values)
    random_words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[(n + 3) // 4],
        key=[seed],
        counter=[tf.zeros_like(call), call],  # the low 64 bits count within a call
        alg=tf.random.Algorithm.PHILOX.value,
        dtype=tf.uint32,
    )
    random_bytes = tf.reshape(tf.bitcast(random_words, tf.uint8), [-1])[:n]
    threshold = tf.constant(int(layer.rate * 256), tf.uint8)
    kept = tf.reshape(random_bytes, tf.shape(values)) >= threshold
    return tf.where(kept, values / (1 - layer.rate), tf.zeros((), values.dtype))
