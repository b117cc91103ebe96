"""The committed baseline of the quality gate, and the comparison of what was measured here with it.

Under a reproducibility key that the baseline knows, everything must be equal. Under another one images, batches and
architectures must be equal, since they do not depend on the machine; losses and predictions must be near the recorded
ones, and the accuracies are compared by a paired test on the test images.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from cifar.metrics import classification, statistics
from cifar.metrics.classification import Probabilities
from cifar.system import environment, files
from cifar.system.json_files import Count, Share, check_version, parse, read_json
from cifar.verify import first_losses
from cifar.verify.check_result import BaselineResult

FORMAT_VERSION = 1
FIRST_OUTPUTS = 10  # images whose probabilities are recorded of every released file
# How far a machine that the baseline does not know may differ: about twice the largest differences that were measured
# with one and three threads and with oneDNN held to AVX2 and SSE 4.1; of released int8 files, with the other kernels
# of LiteRT.
ACCURACY_TOLERANCE = 0.08  # measured: 0.042
AGREEMENT_TOLERANCE = 0.04  # with the Keras model; measured: 0.019
MIN_RELEASED_AGREEMENT = {"float32": 0.999, "float16": 0.999, "int8": 0.9}  # measured: 1, 1, 0.967
MAX_RELEASED_DIFFERENCE = {"float32": 1e-4, "float16": 1e-4, "int8": 0.25}  # measured: 2e-6, 2e-6, 0.086
FALSE_ALARM_RATE = 0.001


class Row(BaseModel):
    """The Keras model or an exported file, and what it predicts for the drawn test images.

    Attributes:
        sha256: of the file; of the Keras model's weights; None if it was not recorded.
        outputs_sha256: of the probabilities, see `classification.sha256`.
        agreement: share of images with the same top class as the Keras model.
        correct_mask: which images are classified correctly, packed by `classification.pack_mask`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str | None
    outputs_sha256: str
    n_test: Count
    accuracy: Share
    agreement: Share
    correct_mask: str


class ReleasedOutputs(BaseModel):
    """What a released file predicts for the drawn test images.

    Attributes:
        precision: of its weights.
        classes: the top class of every image, a digit each.
        first: the probabilities of the first images, float32 (FIRST_OUTPUTS, 10), in base64.
        sha256: of all probabilities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: str
    classes: str
    first: str
    sha256: str

    @classmethod
    def of(cls, predicted: Probabilities, precision: str) -> "ReleasedOutputs":
        """The outputs of a file, float32 (N, 10)."""
        return cls(
            precision=precision,
            classes="".join(map(str, predicted.argmax(axis=1))),
            first=base64.b64encode(predicted[:FIRST_OUTPUTS].astype("<f4").tobytes()).decode(),
            sha256=classification.sha256(predicted),
        )

    @property
    def first_probabilities(self) -> Probabilities:
        """The probabilities of the first images, float32 (FIRST_OUTPUTS, 10)."""
        return np.frombuffer(base64.b64decode(self.first), "<f4").reshape(-1, classification.CLASSES)


class Measurement(BaseModel):
    """What was measured under one reproducibility key.

    Attributes:
        step_losses: of the first batches, by network.
        rows: by format; `keras` is the model that was trained.
        released_sha256: of the probabilities of every released file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reproducibility_key: dict[str, Any]
    step_losses: dict[str, list[float]]
    rows: dict[str, Row]
    released_sha256: dict[str, str]


class Baseline(BaseModel):
    """The baseline file.

    Attributes:
        digests: SHA-256 of what does not depend on the machine.
        released: the outputs of the released files under the key of the first measurement.
        measurements: one per reproducibility key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    digests: dict[str, str]
    released: dict[str, ReleasedOutputs]
    measurements: list[Measurement]


@dataclass(frozen=True)
class Measured:
    """What the quality gate measured here; fields as of Baseline."""

    digests: dict[str, str]
    released: dict[str, ReleasedOutputs]
    measurement: Measurement


def read(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        UsageError: it does not exist, or is not one.
    """
    content = read_json(path)
    check_version(content, path, FORMAT_VERSION)
    return parse(Baseline, content, path)


def write(path: Path, measured: Measured, baseline: Baseline | None) -> None:
    """Write a baseline that knows what was measured here, and the measurements of a baseline that it agrees with.

    Raises:
        StorageError: it cannot be written.
    """
    released, measurements = measured.released, []
    if baseline is not None and not compare(baseline, measured).differences:
        released = baseline.released
        for measurement in baseline.measurements:
            if _key_differences(measurement, measured):
                measurements.append(measurement)
    merged = Baseline(
        format_version=FORMAT_VERSION,
        digests=measured.digests,
        released=released,
        measurements=[*measurements, measured.measurement],
    )
    files.write(path, json.dumps(merged.model_dump(), indent=1) + "\n")


def compare(baseline: Baseline, measured: Measured) -> BaselineResult:
    """Compare what was measured here with a baseline."""
    closest = min(baseline.measurements, key=lambda measurement: len(_key_differences(measurement, measured)))
    key_differences = _key_differences(closest, measured)
    differences = list(_unequal("SHA-256 of ", baseline.digests, measured.digests))
    if key_differences:
        differences += _find_distances(baseline, closest, measured)
    else:
        differences += _find_inequalities(closest, measured.measurement)
    return BaselineResult(differences, key_differences)


def _key_differences(measurement: Measurement, measured: Measured) -> list[str]:
    return environment.key_differences(measurement.reproducibility_key, measured.measurement.reproducibility_key)


def _unequal(prefix: str, expected: dict[str, Any], actual: dict[str, Any]) -> Iterator[str]:
    """Yield a phrase for every expected value that is missing or not equal; None stands for any value."""
    for name, value in expected.items():
        if value is None:
            continue
        if name not in actual:
            yield f"{prefix}{name}: missing"
        elif actual[name] != value:
            yield f"{prefix}{name}: was {str(value)[:40]}, is {str(actual[name])[:40]}"


def _find_inequalities(expected: Measurement, actual: Measurement) -> Iterator[str]:
    """Yield a phrase for everything that is not equal under the same key."""
    yield from _unequal("losses of the first batches, ", expected.step_losses, actual.step_losses)
    yield from _unequal("outputs of ", expected.released_sha256, actual.released_sha256)
    for name, row in expected.rows.items():
        if name not in actual.rows:
            yield f"{name}: missing"
        else:
            yield from _unequal(f"{name}: ", row.model_dump(), actual.rows[name].model_dump())


def _find_distances(baseline: Baseline, expected: Measurement, measured: Measured) -> Iterator[str]:
    """Yield a phrase for everything that is further from the baseline than another machine explains."""
    actual = measured.measurement
    for network, losses in expected.step_losses.items():
        distance = first_losses.find_distance(network, losses, actual.step_losses.get(network, []))
        if distance:
            yield distance
    for name, row in expected.rows.items():
        if name not in actual.rows:
            yield f"{name}: missing"
        else:
            yield from _distance_of_rows(name, row, actual.rows[name], len(expected.rows))
    for name, outputs in baseline.released.items():
        if name not in measured.released:
            yield f"outputs of {name}: missing"
        else:
            yield from _distance_of_outputs(name, outputs, measured.released[name])


def _distance_of_rows(name: str, expected: Row, actual: Row, n_rows: int) -> Iterator[str]:
    if actual.n_test != expected.n_test:
        yield f"{name}: scored on {actual.n_test} images instead of {expected.n_test}"
        return
    before = classification.unpack_mask(expected.correct_mask, expected.n_test)
    after = classification.unpack_mask(actual.correct_mask, actual.n_test)
    paired = statistics.paired_difference(before, after, 1 - FALSE_ALARM_RATE / n_rows)
    low, high = paired.interval
    if high < 0 and paired.difference < -ACCURACY_TOLERANCE:
        yield (
            f"{name}: accuracy was {expected.accuracy:.1%}, is {actual.accuracy:.1%}: on the same images "
            f"{100 * low:.1f} to {100 * high:.1f} points"
        )
    if actual.agreement < expected.agreement - AGREEMENT_TOLERANCE:
        yield (
            f"{name}: agreement with the Keras model was {expected.agreement:.1%}, is {actual.agreement:.1%} "
            f"(± {AGREEMENT_TOLERANCE:.0%})"
        )


def _distance_of_outputs(name: str, expected: ReleasedOutputs, actual: ReleasedOutputs) -> Iterator[str]:
    same = np.array(list(expected.classes)) == np.array(list(actual.classes))
    agreement = float(same.mean())
    difference = float(np.abs(expected.first_probabilities - actual.first_probabilities).max())
    if agreement < MIN_RELEASED_AGREEMENT[expected.precision]:
        yield f"{name}: {agreement:.1%} of its classes are the recorded ones"
    if not difference <= MAX_RELEASED_DIFFERENCE[expected.precision]:
        yield f"{name}: a probability differs by {difference:.2g} from the recorded one"
