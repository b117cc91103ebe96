"""Predictions of untrusted model files: a child process runs them, and whatever a file does there ends in time."""

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from cifar.errors import CifarError, UsageError, first_line
from cifar.formats import FORMATS
from cifar.formats.onnx import check_external_data
from cifar.inference.external import ExternalModel, load_external
from cifar.inference.preprocessing import Preprocessing, PreprocessingNeededError
from cifar.inference.runtimes import ONNX_FORMATS, RuntimeSession, load_session
from cifar.metrics.classification import CLASSES, Probabilities, predict
from cifar.system.child_process import ChildError, ChildProcess, exchange, shorten
from cifar.system.json_files import Count

TIME_LIMIT = 3600.0  # seconds for a file
EXTERNAL_ERRORS = {kind.__name__: kind for kind in (UsageError, PreprocessingNeededError)}


class WhatRan(BaseModel):
    """What computed the predictions of a file, as its runtime says.

    Attributes:
        provider: a provider, a delegate or a device.
        threads: that computed.
        details: what else the runtime says of itself, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    provider: str
    threads: Count
    details: dict[str, int | float | str]


class InferenceError(CifarError):
    """A model file gives no predictions: its runtime refused it, crashed, took too long, or gave something else."""


def predict_in_subprocess(
    format_name: str,
    paths: Sequence[Path],
    images: NDArray[np.uint8],
    threads: int,
    time_limit: float = TIME_LIMIT,
    preprocessing: Preprocessing | None = None,
    advance: Callable[[int], None] = lambda _images: None,
    runtime: str | None = None,
    report: Callable[[WhatRan], None] = lambda _what: None,
) -> Iterator[Probabilities | CifarError]:
    """Run files of one format, one after another, in a fresh process with one runtime.

    Nothing of the files is read in this process. Where the child dies of a file, another goes on with the next.

    Args:
        format_name: a key of FORMATS.
        paths: the files.
        images: uint8 (N, 32, 32, 3).
        threads: for the runtime.
        time_limit: seconds for each file, with the start of the process where there is one.
        preprocessing: of external files; an empty one if they say it themselves. None for files of ours.
        advance: is called with the number of images after each batch.
        runtime: a key of RUNTIMES; None for the format's own.
        report: is called with what ran, before the probabilities of a file.

    Yields:
        For each file its probabilities (of external files the raw outputs), float32 (N, 10), or the error that says
        why there are none: an InferenceError, or the UsageError of a file that does not fit.
    """
    waiting = list(paths)
    external = preprocessing is not None
    while waiting:
        with ChildProcess(_predict_files, format_name, waiting, images, threads, preprocessing, runtime) as child:
            while waiting and child.alive:
                path = waiting.pop(0)
                try:
                    message = _receive(child, time_limit, advance)
                    result: Probabilities | CifarError = _predictions(message, path, len(images), external)
                    report(_what_ran(message))
                except UsageError as error:
                    result = error
                except InferenceError as error:
                    name = runtime or FORMATS[format_name].runtime
                    result = InferenceError(f"{name} cannot run {path.name}: {shorten(str(error))}.")
                yield result
                child.resume()


def predict_file(
    format_name: str,
    path: Path,
    images: NDArray[np.uint8],
    threads: int,
    time_limit: float = TIME_LIMIT,
    preprocessing: Preprocessing | None = None,
    advance: Callable[[int], None] = lambda _images: None,
    runtime: str | None = None,
    report: Callable[[WhatRan], None] = lambda _what: None,
) -> Probabilities:
    """Return the predictions of one file; arguments as of `predict_in_subprocess`.

    Raises:
        InferenceError: there are none.
        UsageError: the file does not fit.
    """
    (result,) = predict_in_subprocess(
        format_name, [path], images, threads, time_limit, preprocessing, advance, runtime, report
    )
    if isinstance(result, CifarError):
        raise result
    return result


def _receive(child: ChildProcess, time_limit: float, advance: Callable[[int], None]) -> dict[str, Any]:
    """Wait for what the child has to say of a file; a child that dies or takes too long is killed.

    Raises:
        InferenceError: it says nothing.
    """
    deadline = time.monotonic() + time_limit
    while True:
        try:
            message: dict[str, Any] = child.receive(deadline - time.monotonic())
        except ChildError as error:
            child.kill()
            timed_out = time.monotonic() >= deadline
            reason = f"no predictions within {time_limit:g} s" if timed_out else error.reason
            raise InferenceError(reason) from error
        if "images" not in message:
            return message
        advance(message["images"])
        child.resume()


def _predictions(message: dict[str, Any], path: Path, n: int, external: bool) -> Probabilities:
    """Return the predictions of n images that a child sent.

    Raises:
        InferenceError: there are none, or they are not what they should be.
        UsageError: an external file does not fit.
    """
    if "error" not in message:
        return _decode(message, n)
    kind, text = message["error"], message["text"]
    if external and kind in EXTERNAL_ERRORS:
        raise EXTERNAL_ERRORS[kind](f"{path}: {text}")
    raise InferenceError(text if kind == CifarError.__name__ else f"{kind}: {text}")


def _what_ran(message: dict[str, Any]) -> WhatRan:
    """Return what a child says that ran; it is not trusted.

    Raises:
        InferenceError: it does not say it.
    """
    try:
        return WhatRan.model_validate(message.get("ran"))
    except ValidationError as error:
        raise InferenceError("it does not say what ran") from error


def _predict_files(
    format_name: str,
    paths: Sequence[Path],
    images: NDArray[np.uint8],
    threads: int,
    preprocessing: Preprocessing | None,
    runtime: str | None,
) -> None:
    """In the child: load each file in its runtime and send what it predicts, or why it does not."""
    for path in paths:
        try:
            predictor = _load(format_name, path, threads, preprocessing, runtime)
            message = _encode(predict(predictor, images, advance=_report_progress))
            message["ran"] = {
                "provider": predictor.provider,
                "threads": predictor.threads,
                "details": predictor.details,
            }
        except Exception as error:  # a runtime raises what it likes of a damaged file
            message = {"error": type(error).__name__, "text": first_line(error)}
        exchange(message)


def _report_progress(images: int) -> None:
    """In the child: tell the parent how many images a batch had."""
    exchange({"images": images})


def _load(
    format_name: str, path: Path, threads: int, preprocessing: Preprocessing | None, runtime: str | None
) -> RuntimeSession | ExternalModel:
    if format_name in ONNX_FORMATS:
        check_external_data(path)
    if preprocessing is None:
        return load_session(format_name, path, threads, runtime_name=runtime)
    return load_external(format_name, path, threads, preprocessing, runtime)


def _encode(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON."""
    return {"dtype": str(array.dtype), "shape": array.shape, "data": base64.b64encode(array.tobytes()).decode()}


def _decode(message: Any, n: int) -> Probabilities:
    """Return the predictions of n images that a child sent, which is not trusted.

    Raises:
        InferenceError: they are not what they should be.
    """
    try:
        dtype, shape = np.dtype(message["dtype"]), tuple(message["shape"])
        array = np.frombuffer(base64.b64decode(message["data"]), dtype).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise InferenceError("its output cannot be read") from error
    if dtype != np.float32 or shape != (n, CLASSES):
        raise InferenceError(f"expected float32 {(n, CLASSES)}, it gave {dtype} {shape}")
    return array
