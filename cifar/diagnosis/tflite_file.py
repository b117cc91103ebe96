"""Diagnosis of a TFLite file in 8-bit integers, in a child process: its tensors beside those of its float twin.

LiteRT cannot switch a single quantiser off; what a step and a range lose is told by the float twin's values.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.diagnosis.schemas import Diagnosis, QuantizedTensor
from cifar.diagnosis.signal import share_of_close, share_outside, signal_to_noise, with_mean_of
from cifar.errors import UsageError
from cifar.inference.external import ExternalModel
from cifar.inference.preprocessing import Preprocessing
from cifar.inference.runtimes import Tensor
from cifar.inference.runtimes.litert import Session
from cifar.metrics.classification import CLASSES, predict

BATCH = 50  # images predicted at once: the interpreter keeps all their tensors
TENSOR_IMAGES = 64  # whose tensors are compared


def diagnose(path: Path, float_path: Path, images: NDArray[np.uint8], preprocessing: Preprocessing) -> Diagnosis:
    """Compare an int8 file with its float twin.

    Args:
        path: of the int8 file.
        float_path: of the float file.
        images: uint8 (N, 32, 32, 3).
        preprocessing: of both files; an empty one if they say it themselves.

    Raises:
        UsageError: no activation of the file is quantised, or one of the two does not fit.
    """
    sessions = [Session(file, 2, "cpu", keep_tensors=True) for file in (path, float_path)]
    models = [ExternalModel(session, preprocessing) for session in sessions]
    predicted, expected = (predict(model, images, BATCH).argmax(axis=1) for model in models)
    for model in models:
        model(images[:TENSOR_IMAGES])
    in_integers, in_float = (session.activations() for session in sessions)
    tensors = []
    for name, (tensor, elements) in in_integers.items():
        _, values = in_float.get(name, (None, np.empty(0)))
        if tensor.scale and values.shape == elements.shape:
            if values.shape[1:] == (CLASSES,):
                values = with_mean_of(values, tensor.dequantise(elements))
            tensors.append(_quantized_tensor(tensor, elements, values))
    if not tensors:
        raise UsageError(f"{path}: none of its quantised tensors is a tensor of {float_path} too.")
    logits = [
        tensor for tensor in tensors if in_float[tensor.name][1].shape == (min(len(images), TENSOR_IMAGES), CLASSES)
    ]
    last = logits[-1] if logits else None
    return Diagnosis(
        n_images=len(images),
        agreement=float((predicted == expected).mean()),
        agreement_of_weights=None,
        logits=last.name if last else None,
        close=share_of_close(in_float[last.name][1], last.step) if last else None,
        tensors=tuple(tensors),
    )


def _quantized_tensor(tensor: Tensor, elements: NDArray[Any], values: NDArray[Any]) -> QuantizedTensor:
    """Compare what an operation of the int8 file gave with what that of its float twin gave."""
    lowest, highest = tensor.value_range
    return QuantizedTensor(
        name=tensor.name,
        lowest=lowest,
        highest=highest,
        step=tensor.scale,
        clipped=share_outside(values, lowest, highest, tensor.scale),
        snr=None,
        twin_snr=signal_to_noise(values, tensor.dequantise(elements)),
    )
