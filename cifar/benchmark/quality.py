"""Accuracy of a file, and its agreement with the Keras model: measured here, or as recorded."""

import numpy as np
from numpy.typing import NDArray

from cifar.benchmark.case_runtime import KERAS_RUNTIMES
from cifar.benchmark.grid import Case
from cifar.benchmark.models import BenchmarkModel
from cifar.benchmark.session import Row
from cifar.data.dataset import Dataset
from cifar.inference import runtime_parity, scoring
from cifar.metrics.classification import pack_mask


def measured(
    model: BenchmarkModel, data: Dataset, outputs: NDArray[np.float32], keras_classes: NDArray[np.int64] | None
) -> Row:
    """Return what a file's outputs say; of agreement nothing where there is no Keras model.

    Args:
        model: of the file.
        data: with its test set.
        outputs: of the test images, (N, classes), in the order of the model's classes.
        keras_classes: the classes that the Keras model predicts, (N,).
    """
    class_order = model.external.class_order if model.external else None
    columns = scoring.output_columns(class_order, data.class_names)
    classes = outputs[:, columns].argmax(axis=1)
    correct = classes == data.y_test
    row: Row = {
        "accuracy": float(correct.mean()),
        "correct": int(correct.sum()),
        "n_test": len(classes),
        "correct_mask": pack_mask(correct),
    }
    if keras_classes is not None:
        row["agreement"] = float((classes == keras_classes).mean())
    return row


def recorded(case: Case, model: BenchmarkModel) -> Row:
    """Accuracy and agreement as the manifest has them; those of a run's Keras model as its metrics do."""
    if model.external:
        return {"accuracy": None, "agreement": None}
    if case.runtime:  # the manifest tells what the format's own runtime gave
        kept = runtime_parity.read(model.paths[case.format])
        entry = model.entries.get(case.format)
        known = kept is not None and entry is not None and kept.sha256 == entry.sha256
        accuracy = kept.accuracy.get(case.runtime) if kept and known else None
        return {"accuracy": accuracy, "agreement": None}
    recorded_format = "saved-model" if case.format in KERAS_RUNTIMES else case.format
    entry = model.entries.get(recorded_format)
    if entry:
        return {"accuracy": entry.accuracy, "agreement": entry.agreement}
    return {"accuracy": model.run.metrics.accuracy if model.run else None, "agreement": 1.0}
