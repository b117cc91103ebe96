"""A diagnosis in a process of its own: model files are not loaded in this one."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.diagnosis.schemas import Diagnosis, QuantizedTensor, QuantizedWeights
from cifar.errors import UsageError
from cifar.inference.external import format_of
from cifar.inference.preprocessing import Preprocessing
from cifar.system.child_process import ChildProcess, exchange

FORMATS = ("onnx", "tflite")
TIME_LIMIT = 900.0  # seconds between two steps


def float_twin(path: Path) -> Path:
    """Return the float file beside an int8 file of ours: NAME.onnx of NAME.int8.onnx.

    Raises:
        UsageError: there is none.
    """
    twin = path.with_name(path.name.replace(".int8.", "."))
    if twin == path or not twin.exists():
        raise UsageError(f"{path}: its float file is not beside it; name it with --float.")
    return twin


def diagnose(
    path: Path,
    float_path: Path,
    images: NDArray[np.uint8],
    preprocessing: Preprocessing,
    advance: Callable[[int], None] = lambda _of: None,
) -> Diagnosis:
    """Compare an int8 file with its float file.

    Args:
        path: .onnx or .tflite.
        float_path: of the same format.
        images: uint8 (N, 32, 32, 3).
        preprocessing: of both files; an empty one if they say it themselves.
        advance: is called after each step with the number of all.

    Raises:
        UsageError: one of the files does not fit, or the first has no quantised activations.
        ChildError: a runtime refused one of them or crashed.
    """
    format_name = format_of(path)
    if format_name not in FORMATS or format_of(float_path) != format_name:
        raise UsageError(f"{path} and {float_path}: two .onnx or two .tflite files are compared.")
    with ChildProcess(_diagnose, format_name, path, float_path, images, preprocessing) as child:
        message = child.receive(TIME_LIMIT)
        while not child.finished:
            advance(message)
            child.resume()
            message = child.receive(TIME_LIMIT)
    tensors = tuple(QuantizedTensor(**tensor) for tensor in message.pop("tensors"))
    weights = tuple(QuantizedWeights(**layer) for layer in message.pop("weights"))
    return Diagnosis(**message, tensors=tensors, weights=weights)


def _diagnose(
    format_name: str, path: Path, float_path: Path, images: NDArray[np.uint8], preprocessing: Preprocessing
) -> dict[str, Any]:
    if format_name == "tflite":
        from cifar.diagnosis import tflite_file

        return asdict(tflite_file.diagnose(path, float_path, images, preprocessing))
    from cifar.diagnosis import onnx_file

    return asdict(onnx_file.diagnose(path, float_path, images, preprocessing, exchange))
