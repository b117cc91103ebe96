"""What rounding does to a tensor."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.metrics.classification import CLASSES


def signal_to_noise(values: NDArray[Any], rounded: NDArray[Any]) -> float:
    """Return the signal-to-noise ratio in dB of two tensors of the same shape, as ONNX Runtime computes it."""
    from onnxruntime.quantization.qdq_loss_debug import compute_signal_to_quantization_noice_ratio

    return float(compute_signal_to_quantization_noice_ratio(values, rounded))


def share_outside(values: NDArray[Any], lowest: float, highest: float, step: float) -> float:
    """Return the share of values that a range clips by more than half a step."""
    return float(((values < lowest - step / 2) | (values > highest + step / 2)).mean())


def with_mean_of(logits: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Return logits, each image's shifted to the mean of others: softmax ignores what all of an image share."""
    rows, other_rows = logits.reshape(-1, CLASSES), others.reshape(-1, CLASSES)
    shifted: NDArray[Any] = rows - rows.mean(axis=1, keepdims=True) + other_rows.mean(axis=1, keepdims=True)
    return np.reshape(shifted, logits.shape)


def share_of_close(logits: NDArray[Any], step: float) -> float:
    """Return the share of images whose two largest logits, of ten, differ by less than a step."""
    rows = np.sort(logits.reshape(-1, CLASSES), axis=1)
    return float((rows[:, -1] - rows[:, -2] < step).mean())
