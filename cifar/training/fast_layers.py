"""Faster operations in training for some of Keras's layers, on TensorFlow.

Each computes what the Keras layer computes, in its precision. The model itself consists of Keras's layers, and is
scored and saved as such.
"""

from collections.abc import Callable
from typing import Any

FUSED_MIN_EPSILON = 1.001e-5  # of batch normalization on a GPU: what cuDNN asks for


def replacement(layer: Any) -> Callable[[Any, Any], Any] | None:
    """Return the function that computes a layer's output from the layer and its input; None leaves it to Keras."""
    if _is_plain_convolution(layer):
        return convolve
    if _is_plain_dropout(layer):
        return drop
    if _is_plain_normalization(layer):
        return normalize
    if _is_gelu(layer):
        return gelu
    return None


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
        and layer.compute_dtype == "float32"  # in bfloat16 nothing is gained
    )


def convolve(layer: Any, images: Any) -> Any:
    """Return the output of a Conv2D layer with bias and ReLU.

    The gradient of the bias is computed on its own. Otherwise TensorFlow fuses it into the gradient of the kernel,
    which takes oneDNN a third longer. A product with ones is the sum that is fastest on a CPU.
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
            pixel_gradients = tf.reshape(relu_gradient, (-1, features.shape[-1]))
            ones = tf.ones((1, tf.shape(pixel_gradients)[0]))
            bias_gradient = tf.squeeze(ones @ pixel_gradients, axis=0)
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


def _is_plain_normalization(layer: Any) -> bool:
    """Whether `normalize` computes the same as a layer."""
    import keras
    import tensorflow as tf

    return (
        type(layer) is keras.layers.BatchNormalization
        and len(layer.input.shape) == 4
        and layer.axis in (-1, 3)
        and layer.trainable
        and not layer.renorm
        and layer.compute_dtype in ("float32", "bfloat16")
        and (layer.epsilon >= FUSED_MIN_EPSILON or not tf.config.list_logical_devices("GPU"))
    )


def normalize(layer: Any, features: Any) -> Any:
    """Return the output of a BatchNormalization layer (B, H, W, C), and update its running statistics.

    TensorFlow's fused operation computes in float32 and reads its input once, where Keras's chain of operations
    writes a float32 tensor at each. Its variance is the unbiased one, Keras keeps the other.
    """
    import tensorflow as tf

    features = tf.cast(features, layer.compute_dtype)
    channels = features.shape[-1]
    outputs, mean, unbiased_variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=features,
        scale=layer.gamma.value if layer.scale else tf.ones(channels),
        offset=layer.beta.value if layer.center else tf.zeros(channels),
        mean=tf.zeros(0),
        variance=tf.zeros(0),
        epsilon=layer.epsilon,
        is_training=True,
    )
    n = tf.cast(tf.size(features) // channels, tf.float32)
    variance = unbiased_variance * ((n - 1) / n)
    for running, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        running.assign(running.value * layer.momentum + batch * (1 - layer.momentum))
    return outputs


def _is_gelu(layer: Any) -> bool:
    """Whether `gelu` computes the same as a layer."""
    import keras

    return (
        type(layer) is keras.layers.Activation
        and layer.activation is keras.activations.gelu
        and layer.compute_dtype in ("float32", "bfloat16")
    )


def gelu(layer: Any, values: Any) -> Any:
    """Return the output of an Activation layer with GELU in its exact form, in one pass forward and one backward.

    XLA compiles both. They compute in float32; in bfloat16 Keras's dozen operations round after each.
    """
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def forward(values: Any) -> Any:
        x = tf.cast(values, tf.float32)
        return tf.cast(x * _normal_cdf(x), values.dtype)

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def backward(values: Any, upstream: Any) -> Any:
        x = tf.cast(values, tf.float32)
        density = tf.exp(-0.5 * x * x) * 0.3989422804014327  # 1 / sqrt(2 pi)
        gradient = tf.cast(upstream, tf.float32) * (_normal_cdf(x) + x * density)
        return tf.cast(gradient, values.dtype)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(values: Any) -> Any:
        return forward(values), lambda upstream: backward(values, upstream)

    return function(tf.cast(values, layer.compute_dtype))


def _normal_cdf(x: Any) -> Any:
    """The distribution function of the standard normal distribution."""
    import tensorflow as tf

    return 0.5 + 0.5 * tf.math.erf(x * 0.7071067811865476)  # 1 / sqrt(2)
