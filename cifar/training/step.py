"""The training step on TensorFlow: Keras's layers and optimizer, with faster operations for some of the layers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.training import fast_layers

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

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # as Keras traces; two seconds faster
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

    features = tf.cast(images, model.inputs[0].dtype)
    if type(model) is keras.Sequential:
        for layer in model.layers:
            features = _in_training(layer)(features)
        return features
    if type(model).__name__ == "Functional":  # and not of a class with a `call` of its own
        return model._run_through_graph(features, operation_fn=_in_training)
    return model(images, training=True)


def _in_training(operation: Any) -> Callable[..., Any]:
    """Return the function that computes the output of a layer, or of another operation of a model, in training."""
    import keras

    if not isinstance(operation, keras.layers.Layer):
        return operation  # type: ignore[no-any-return]
    faster = fast_layers.replacement(operation)
    if faster is None:
        return partial(operation, training=True)

    def run(features: Any, mask: Any = None) -> Any:
        if mask is not None:
            return operation(features, mask=mask, training=True)
        return faster(operation, features)

    return run
