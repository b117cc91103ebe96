"""The logits of a network before they are quantised: centred, and within a range that costs few decisions.

An 8-bit tensor has 255 steps over its range. Softmax ignores what all logits of an image share, so training lets them
drift; and the range of the extremes is far wider than what decides between classes. Either makes a step so large that
the two best classes fall into one.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.metrics import classification

LOWEST = (-60.0, -40.0, -30.0, -20.0, -15.0, -10.0)  # candidates for the ends of the range, in log-odds
HIGHEST = (100.0, 80.0, 60.0, 50.0, 40.0, 30.0, 20.0)
STEPS = 255  # of an 8-bit tensor
SOFTMAX = "softmax_of_logits"  # a layer's name; no layer of a network has it
ROUNDING = 1e-5  # of float32 logits, relative to the largest


@dataclass(frozen=True)
class Logits:
    """A network up to its softmax, with centred logits.

    Attributes:
        model: a Keras model, image to logits; their mean over the classes is 0.
        values: the logits (N, classes) of the images that chose the range, float32.
        range: lowest and highest value that their 8 bits can tell; what lies outside is clipped. None: the extremes
            of the calibration images.
        softmax: whether a file made of it gives probabilities; else it gives the logits.
    """

    model: Any
    values: NDArray[np.float32]
    range: tuple[float, float] | None
    softmax: bool = True

    @property
    def layer(self) -> str:
        """The name of the layer whose kernel and bias are centred."""
        name: str = _last_kernel_layer(self.model).name
        return name


@dataclass(frozen=True)
class NotCentred:
    """Why a network's logits are quantised as they are."""

    reason: str


def centred(model: Any, images: NDArray[np.uint8]) -> Logits | NotCentred:
    """Centre a network's logits and choose their range by the decisions on images.

    Args:
        model: a Keras model that gives probabilities; it stays as it is.
        images: training images (N, 32, 32, 3), uint8.
    """
    logits_model = _without_softmax(model)
    if logits_model is None:
        return NotCentred("its last layer is no softmax")
    before = _predict(logits_model, images)
    logits_model = _with_folded_scale(logits_model)
    layer = _last_kernel_layer(logits_model)
    if layer is None or layer.kernel.shape[-1] != before.shape[1]:
        return NotCentred("its last kernel does not give a number per class")
    _centre(layer)
    logits = _predict(logits_model, images)
    expected = before - before.mean(axis=1, keepdims=True)
    if not np.allclose(logits, expected, rtol=0, atol=ROUNDING * np.abs(before).max(initial=1)):
        return NotCentred("between its last kernel and the softmax there is more than a scale and pooling")
    if _last_layer(logits_model) is not layer:  # the kernel's output is another tensor than the logits
        return Logits(logits_model, logits, None)
    return Logits(logits_model, logits, choose_range(logits))


def choose_range(logits: NDArray[np.float32]) -> tuple[float, float]:
    """Return the range in which 8 bits keep the largest element of most rows; of equal ones the widest.

    Args:
        logits: (N, classes), float32.
    """
    least, most = min(float(logits.min()), 0.0), max(float(logits.max()), 0.0)
    ranges = []
    for lowest in (least, *(end for end in LOWEST if end > least)):
        for highest in (most, *(end for end in HIGHEST if end < most)):
            ranges.append((lowest, highest))
    return max(ranges, key=lambda ends: agreement(logits, *ends))


def agreement(logits: NDArray[np.float32], lowest: float, highest: float) -> float:
    """Return the share of rows whose largest element is the same in 8 bits; of equal elements the first counts."""
    step = (highest - lowest) / STEPS or 1.0
    zero_point = np.round(-lowest / step)
    in_8_bits = np.clip(np.round(logits / step) + zero_point, 0, STEPS)
    return float((in_8_bits.argmax(axis=1) == logits.argmax(axis=1)).mean())


def without_mean_error(logits: Logits, quantized: NDArray[np.float32]) -> Logits:
    """Return logits whose bias has the mean error of 8 bits subtracted (Nagel et al. 2019, arXiv 1906.04721, 4.2).

    Args:
        logits: in float32; a layer without a bias stays as it is.
        quantized: the logits (N, classes) that a file of 8 bits gives for the images that chose the range. If they
            are not finite, nothing is subtracted: the file is refused when it is checked.
    """
    import keras

    if not np.isfinite(quantized).all():
        return logits
    expected = logits.values
    lowest, highest = logits.range or (-np.inf, np.inf)
    is_inside = (expected > lowest) & (expected < highest)
    errors = np.where(is_inside, quantized - expected, 0)
    mean_error = errors.sum(axis=0) / np.maximum(is_inside.sum(axis=0), 1)
    copy = keras.models.clone_model(logits.model)
    copy.set_weights(logits.model.get_weights())
    bias = _last_kernel_layer(copy).bias
    if bias is not None:
        bias.assign(bias - (mean_error - mean_error.mean()))
    return replace(logits, model=copy)


def output_model(logits: Logits) -> Any:
    """Return the Keras model that a file is made of."""
    return _end(logits, logits.model.outputs[0])


def output_model_with_range(logits: Logits) -> Any:
    """Return the Keras model that a file is made of, the range of its logits marked in TensorFlow's way.

    See https://www.tensorflow.org/api_docs/python/tf/quantization/fake_quant_with_min_max_args.
    """
    import keras
    import tensorflow as tf

    if logits.range is None:
        return output_model(logits)
    lowest, highest = logits.range

    class InRange(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return tf.quantization.fake_quant_with_min_max_args(inputs, lowest, highest)

    return _end(logits, InRange(name="logits_in_range")(logits.model.outputs[0]))


def _end(logits: Logits, output: Any) -> Any:
    import keras

    if logits.softmax:
        output = keras.layers.Softmax(name=SOFTMAX)(output)
    return keras.Model(logits.model.inputs[0], output, name=logits.model.name)


def _predict(model: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    from cifar import networks  # not in every process that asks for a format

    return classification.predict(networks.predictor(model), images)


def _without_softmax(model: Any) -> Any:
    """A copy that gives the logits; None if the model cannot be copied layer by layer or ends in no softmax."""
    import keras

    try:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        copy = keras.Model(copy.inputs[0], copy.outputs[0], name=model.name)
    except (AttributeError, NotImplementedError, TypeError, ValueError):  # a subclass of Keras's models
        return None
    last = _last_layer(copy)
    is_softmax = getattr(last, "activation", None) is keras.activations.softmax
    if isinstance(last, keras.layers.Softmax) or (isinstance(last, keras.layers.Activation) and is_softmax):
        return keras.Model(copy.inputs[0], last.input, name=model.name)
    if not is_softmax:
        return None
    last.activation = keras.activations.linear
    return copy


def _with_folded_scale(model: Any) -> Any:
    """Multiply the last kernel and bias by the factor of a rescaling layer after it, and leave that layer out."""
    import keras

    last, kernel_layer = _last_layer(model), _last_kernel_layer(model)
    is_factor = isinstance(last, keras.layers.Rescaling) and np.ndim(last.scale) == 0 and not np.any(last.offset)
    if not is_factor or kernel_layer is None:
        return model
    for weight in _kernel_and_bias(kernel_layer):
        weight.assign(weight * last.scale)
    return keras.Model(model.inputs[0], last.input, name=model.name)


def _centre(layer: Any) -> None:
    """Subtract their mean over the classes from a layer's kernel and bias."""
    for weight in _kernel_and_bias(layer):
        values = weight.numpy().astype(np.float64)
        weight.assign(values - values.mean(axis=-1, keepdims=True))


def _last_layer(model: Any) -> Any:
    """The layer that gives the output of a functional model."""
    return model.get_layer(model.output_names[0])


def _last_kernel_layer(model: Any) -> Any:
    """The last layer with a kernel; None if there is none."""
    layers = [layer for layer in model.layers if getattr(layer, "kernel", None) is not None]
    return layers[-1] if layers else None


def _kernel_and_bias(layer: Any) -> list[Any]:
    return [weight for weight in (layer.kernel, layer.bias) if weight is not None]
