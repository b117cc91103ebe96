"""Model files that this project did not write: layout, dtype and quantisation are read from the file.

Any model that sorts 32x32 RGB into ten classes: NHWC or NCHW, float, uint8 or int8, quantised or not, any names, a
fixed or a free batch size. Only how a float input scales pixels is in no file; the user says it (Preprocessing).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.inference.preprocessing import RANGES, Preprocessing, PreprocessingNeededError
from cifar.inference.runtimes import RuntimeSession, Tensor, load_session
from cifar.metrics.classification import CLASSES, Probabilities

SUFFIXES = {".onnx": "onnx", ".tflite": "tflite"}
NHWC, NCHW = (32, 32, 3), (3, 32, 32)
RANGE_TOLERANCE = 0.02  # of a range's width: two ranges that differ less are the same


class ExternalModel:
    """A model file of any origin as a predictor of raw outputs: float32 (N, 10), logits or probabilities.

    Args:
        session: the file in its runtime.
        preprocessing: how it scales pixels; an empty one if the file says so itself.

    Raises:
        UsageError: the model does not take images of 32x32 RGB, does not give ten numbers, or its preprocessing is
            missing or does not apply.
    """

    def __init__(self, session: RuntimeSession, preprocessing: Preprocessing) -> None:
        self._input, self._output = session.input, session.output
        if self._output.size not in (1, CLASSES):
            raise UsageError(f"its output '{self._output.name}' is {self._output.shape_text}, not (N, {CLASSES}).")
        self._channels_first = _channels_first(self._input)
        self._fixed_batch_size = self._input.shape[0]
        self._preprocessing = _required_preprocessing(self._input, preprocessing)
        self.session = session
        self.threads, self.details = session.threads, session.details

    @property
    def provider(self) -> str:
        """What computes, read back from the runtime."""
        return self.session.provider

    @property
    def delegated_share(self) -> float | None:
        """The share of the operations that a delegate runs; None in a runtime without delegates."""
        return self.session.delegated_share

    def __call__(self, images: NDArray[np.uint8]) -> Probabilities:
        """Return the raw outputs, float32 (N, 10), of bytes (N, 32, 32, 3)."""
        outputs = [self._run(batch) for batch in self.input_batches(images)]
        return np.concatenate(outputs)[: len(images)]

    def input_batches(self, images: NDArray[np.uint8]) -> Iterator[NDArray[Any]]:
        """Yield bytes (N, 32, 32, 3) as the input takes them, the last batch filled up to the input's fixed size."""
        size = self._fixed_batch_size or len(images)
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            if len(batch) < size:
                batch = np.resize(batch, (size, *batch.shape[1:]))
            yield self._input_batch(batch)

    def _run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        output = np.asarray(self.session(batch))
        values = self._output.dequantise(output)
        if values.size != len(batch) * CLASSES:
            raise UsageError(f"its output for {len(batch)} images is {output.shape}, not ({len(batch)}, {CLASSES}).")
        return values.reshape(len(batch), CLASSES)

    def _input_batch(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Scale, quantise and transpose images as the input wants them."""
        batch: NDArray[Any] = images
        if self._preprocessing is not None:
            values = self._preprocessing(images)
            batch = self._input.quantise(values) if self._input.scale else values.astype(self._input.dtype)
        if self._channels_first:
            batch = batch.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(batch)


def load_external(
    format_name: str, path: Path, threads: int, preprocessing: Preprocessing, runtime_name: str | None = None
) -> ExternalModel:
    """Load an external file in a runtime; arguments as of `load_session`.

    Raises:
        UsageError: it does not fit, see ExternalModel.
    """
    return ExternalModel(load_session(format_name, path, threads, runtime_name=runtime_name), preprocessing)


def format_of(path: Path) -> str:
    """Return the key of FORMATS by whose runtime a file is run.

    Raises:
        UsageError: it does not exist, or has none of these formats.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such run folder, and no such file.")
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return "saved-model"
    if path.is_file() and path.suffix in SUFFIXES:
        return SUFFIXES[path.suffix]
    raise UsageError(f"{path}: neither a run folder, an .onnx or .tflite file, nor a SavedModel folder.")


def _channels_first(tensor: Tensor) -> bool:
    """Whether an input is NCHW and not NHWC.

    Raises:
        UsageError: it is neither.
    """
    if _fits(tensor, NHWC):
        return False
    if _fits(tensor, NCHW):
        return True
    raise UsageError(f"its input '{tensor.name}' is {tensor.shape_text}, neither (N, 32, 32, 3) nor (N, 3, 32, 32).")


def _fits(tensor: Tensor, sides: tuple[int, ...]) -> bool:
    """Whether the axes of a tensor beside the batch have these sizes, or are free."""
    axes = tensor.shape[1:]
    if len(axes) != len(sides):
        return False
    return all(axis in (None, side) for axis, side in zip(axes, sides, strict=True))


def _required_preprocessing(tensor: Tensor, preprocessing: Preprocessing) -> Preprocessing | None:
    """Return the preprocessing that an input needs; None for bytes as they are."""
    if tensor.dtype.kind == "f":
        if not preprocessing:
            raise PreprocessingNeededError(
                f"its input '{tensor.name}' is {tensor.dtype}, and how it scales pixels is not in it."
            )
        return preprocessing
    if tensor.dtype not in (np.uint8, np.int8):
        raise UsageError(f"its input '{tensor.name}' is {tensor.dtype}; float, uint8 and int8 are supported.")
    if tensor.scale:
        return preprocessing or _preprocessing_of(tensor)
    if tensor.dtype == np.int8:
        raise UsageError(f"its input '{tensor.name}' is int8, and no scale and zero point say what that means.")
    if preprocessing:
        raise UsageError(f"its input '{tensor.name}' takes bytes as they are: {preprocessing} does not apply.")
    return None


def _preprocessing_of(tensor: Tensor) -> Preprocessing:
    """Return the range that a quantised input covers."""
    low, high = tensor.value_range
    for name, known in RANGES.items():
        distance = max(abs(low - known.low), abs(high - known.high))
        if distance <= RANGE_TOLERANCE * (known.high - known.low):
            return Preprocessing(name)
    raise PreprocessingNeededError(
        f"its input '{tensor.name}' is quantised from {low:.3g} to {high:.3g}, no range known here."
    )
