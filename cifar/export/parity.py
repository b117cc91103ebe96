"""The parity check: what refuses an exported file that differs from the Keras model or loses too much accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import CifarError
from cifar.formats import FORMATS, top1
from cifar.formats.logits import Logits, NotCentred
from cifar.formats.manifest import LogitsEntry, ManifestEntry
from cifar.formats.top1 import Top1
from cifar.metrics import classification
from cifar.metrics.classification import Probabilities
from cifar.runs.run import Run
from cifar.system import files, hardware

MIN_AGREEMENT = 0.9999  # of top-1 classes with the Keras model
MAX_DIFFERENCE = 1e-4  # of any probability

Predictions = Mapping[Path, Probabilities | CifarError]
"""What each written file predicts for the test set, or why it predicts nothing."""


class ParityError(CifarError):
    """An exported file is not equivalent to the Keras model, or loses too much accuracy. Exit code 1."""


@dataclass(frozen=True)
class Draft:
    """A file that is written and not yet checked.

    Attributes:
        run: what it was exported from.
        format: a key of FORMATS.
        path: in the scratch folder.
        multiply_adds: of the network, per image.
        calibration: indices of the training images from which int8 takes its ranges.
        logits: what int8 quantises; None for other precisions.
        keep_float: layers that it leaves in float32.
    """

    run: Run
    format: str
    path: Path
    multiply_adds: int | None
    calibration: list[int]
    logits: Logits | NotCentred | None
    keep_float: Sequence[str]


@dataclass(frozen=True)
class CheckedFile:
    """A file that may be moved into place.

    Attributes:
        draft: the file.
        entry: of the manifest; the digest of `top1` is not yet in it.
        top1: what it says of every test image.
    """

    draft: Draft
    entry: ManifestEntry
    top1: Top1


def check_parity(drafts: Sequence[Draft], predictions: Predictions, max_drop: float | None) -> list[CheckedFile]:
    """Compare the files of a run with its Keras model.

    Args:
        drafts: the files.
        predictions: theirs for the whole test set.
        max_drop: points of test accuracy that a float16 or int8 file may lose; None for its format's own limit.

    Raises:
        ParityError: a file gives no predictions, is not equivalent, or loses too much accuracy.
    """
    checked = []
    for draft in drafts:
        result = predictions[draft.path]
        if isinstance(result, CifarError):
            raise ParityError(str(result))
        checked.append(CheckedFile(draft, _check_file(draft, result, max_drop), top1.of(result)))
    return checked


def _check_file(draft: Draft, predicted: Probabilities, max_drop: float | None) -> ManifestEntry:
    """Compare a file's predictions with the Keras model's: equivalent, or, in a lower precision, accurate enough.

    Raises:
        ParityError: they are not.
    """
    expected, labels = draft.run.predictions()
    agreement, difference = agreement_and_difference(expected, predicted)
    accuracy = float((predicted.argmax(axis=1) == labels).mean())
    limit = FORMATS[draft.format].max_drop
    if limit is None:
        reason = _reason_not_equivalent(agreement, difference)
    elif not np.isfinite(predicted).all():
        reason = "its outputs contain NaN or infinity."
    else:
        drop = 100 * (draft.run.metrics.accuracy - accuracy)
        reason = _reason_too_inaccurate(drop, limit if max_drop is None else max_drop)
    if reason:
        raise ParityError(f"{draft.path.name}: refused: {reason}")
    return _entry(
        draft,
        accuracy=accuracy,
        n_test=len(labels),
        agreement=agreement,
        max_difference=difference,
        outputs_sha256=classification.sha256(predicted),
    )


def _reason_not_equivalent(agreement: float, difference: float) -> str | None:
    """Why a float32 file is refused; None if it is not."""
    if agreement >= MIN_AGREEMENT and difference <= MAX_DIFFERENCE:
        return None
    return (
        f"{agreement:.2%} of the classes agree with the Keras model (at least {MIN_AGREEMENT:.2%}), "
        f"largest difference {difference:.1e} (at most {MAX_DIFFERENCE:.0e})."
    )


def _reason_too_inaccurate(drop: float, max_drop: float) -> str | None:
    """Why a file of lower precision is refused; None if it is not. Both in points of accuracy."""
    rounding = 1e-9
    if drop <= max_drop + rounding:
        return None
    return f"it loses {drop:.2f} points of accuracy (at most {max_drop:g}; --max-drop)."


def _entry(draft: Draft, **scores: Any) -> ManifestEntry:
    metrics, format_ = draft.run.metrics, FORMATS[draft.format]
    return ManifestEntry(
        file=draft.path.name,
        format=draft.format,
        precision=format_.precision,
        bytes=files.size(draft.path),
        sha256=files.sha256(draft.path),
        network=metrics.network,
        augment=metrics.augment,
        seed=metrics.seed,
        weights_sha256=metrics.weights_sha256,
        dataset=metrics.dataset,
        official=metrics.official,
        parameters=metrics.parameters,
        data_sha256=draft.run.identity.data_sha256,
        multiply_adds=draft.multiply_adds,
        calibration=draft.calibration if format_.precision == "int8" else None,
        logits=_logits_entry(draft.logits),
        keep_float=list(draft.keep_float),
        runtime=format_.runtime,
        runtime_version=metadata.version(format_.runtime),
        instruction_sets=hardware.cpu()["instruction_sets"],
        **scores,
    )


def _logits_entry(logits: Logits | NotCentred | None) -> LogitsEntry | None:
    if logits is None:
        return None
    if isinstance(logits, NotCentred):
        return LogitsEntry(centred=False, reason=logits.reason)
    return LogitsEntry(centred=True, range=logits.range)


def agreement_and_difference(expected: Probabilities, predicted: NDArray[np.float32]) -> tuple[float, float]:
    """Return top-1 agreement and largest absolute difference of probabilities; NaN differs from everything."""
    if expected.shape != predicted.shape:
        return 0.0, float("inf")
    same_class = expected.argmax(axis=1) == predicted.argmax(axis=1)
    difference = np.abs(expected.astype(np.float64) - predicted).max()
    return float(same_class.mean()), float(difference)
