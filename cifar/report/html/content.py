"""What the page shows: rows of runs and of files, and what each says of every test image."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.summary import Summary
from cifar.diagnosis import saved
from cifar.diagnosis.schemas import Diagnosis
from cifar.formats import FORMATS, top1
from cifar.formats.manifest import ManifestEntry
from cifar.formats.top1 import Top1
from cifar.metrics import statistics
from cifar.report import numbers
from cifar.report.html import pictures
from cifar.report.html.pictures import Pictures
from cifar.report.html.trade_off import Point

Images = Mapping[str, NDArray[np.uint8]]
"""Test images (N, 32, 32, 3) by data digest."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it shows, and what it is sorted by."""

    text: str
    value: float | str


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: one per column.
        source: where the numbers come from: pairs of a name and a text.
        is_best: whether its accuracy is the best of the table.
    """

    cells: list[Cell]
    source: list[tuple[str, str]]
    is_best: bool = False


@dataclass(frozen=True)
class Grid:
    """A table that can be sorted and filtered.

    Attributes:
        columns: headings.
        filters: headings of the columns by whose values rows are filtered.
        rows: the rows.
        note: what a reader must know.
    """

    columns: Sequence[str]
    filters: Sequence[str]
    rows: list[Row]
    note: str


@dataclass
class TestSet:
    """Test images on which runs and files are compared, image by image.

    Attributes:
        name: of the data set.
        sha256: of the data.
        class_names: of the ten classes.
        labels: uint8 (N,).
        predictions: of runs and files, by their names.
        left_out: how many more runs and files there are than the page has room for.
        pictures: of the images that any of them gets wrong; None where the data are not at hand.
    """

    name: str
    sha256: str
    class_names: list[str]
    labels: NDArray[np.uint8]
    predictions: dict[str, Top1] = field(default_factory=dict)
    left_out: int = 0
    pictures: Pictures | None = None


MAX_PREDICTIONS = 120  # runs and files whose classes are in the page: about 3 MB for 10,000 test images
RUN_COLUMNS = (
    *("network", "recipe", "augment", "precision", "seed", "test %", "train %", "gap", "ECE", "minutes"),
    "parameters",
)
RUN_FILTERS = ("network", "recipe", "augment", "precision")
RUN_NOTE = (
    "test %: after the last epoch, ± half of Wilson's 95 % interval over the test images. train %: on the clean "
    "training images. gap: points between them. ECE: expected calibration error. minutes: of training alone, as the "
    "run recorded them. Bold: the highest test accuracy."
)
FILE_COLUMNS = ("run", "format", "precision", "test %", "agree %", "kB")
FILE_FILTERS = ("run", "format", "precision")
FILE_NOTE = (
    "test %: of the file in its own runtime, ± half of Wilson's 95 % interval. agree %: test images in the Keras "
    "model's class. Bold: the highest test accuracy."
)


def runs(summary: Summary) -> Grid:
    """Return the table of runs."""
    best = max(result.scores.accuracy for result in summary.results)
    rows = [_run_row(result, best) for result in summary.results]
    return Grid(RUN_COLUMNS, RUN_FILTERS, rows, RUN_NOTE)


def exported_files(summary: Summary) -> Grid:
    """Return the table of exported files."""
    entries = [(result, entry) for result in summary.results for entry in result.exports]
    best = max((entry.accuracy for _, entry in entries), default=0.0)
    rows = [_file_row(result, entry, best) for result, entry in entries]
    return Grid(FILE_COLUMNS, FILE_FILTERS, rows, FILE_NOTE)


def _run_row(result: FinishedRun, best: float) -> Row:
    metrics, recipe = result.metrics, result.run.recipe
    gap = metrics.train_accuracy_clean - metrics.accuracy
    minutes = metrics.train_seconds / 60
    cells = [
        _text(recipe.network),
        _text(recipe.recipe),
        _text(result.augment),
        _text(recipe.precision),
        Cell(str(result.seed), result.seed),
        _accuracy(metrics.accuracy, metrics.accuracy_interval),
        Cell(f"{100 * metrics.train_accuracy_clean:.1f}", metrics.train_accuracy_clean),
        Cell(numbers.points(gap), gap),
        Cell(f"{metrics.ece:.3f}", metrics.ece),
        Cell(f"{minutes:.1f}", minutes),
        Cell(f"{metrics.parameters:,}", metrics.parameters),
    ]
    machine = result.run.environment.get("cpu", {}).get("model", "not recorded")
    source = [
        ("run", result.run.path.name),
        ("recipe", f"{recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer} {recipe.learning_rate:g}"),
        ("machine", f"{machine}, {metrics.threads} threads"),
        ("images", f"{metrics.n_train:,} for training, {metrics.n_test:,} for the test"),
        ("weights", f"SHA-256 {metrics.weights_sha256}"),
        ("check", f"cifar verify {result.run.path.name} --epochs 1"),
    ]
    return Row(cells, source, metrics.accuracy == best)


def _file_row(result: FinishedRun, entry: ManifestEntry, best: float) -> Row:
    correct = round(entry.accuracy * entry.n_test)
    cells = [
        _text(result.run.path.name),
        _text(entry.format),
        _text(entry.precision),
        _accuracy(entry.accuracy, statistics.proportion_interval(correct, entry.n_test)),
        Cell(f"{100 * entry.agreement:.2f}", entry.agreement),
        Cell(f"{entry.bytes / 1000:,.0f}", entry.bytes),
    ]
    source = [
        ("file", entry.file),
        ("runtime", f"{entry.runtime} {entry.runtime_version}"),
        ("images", f"{entry.n_test:,} test images"),
        ("file's digest", f"SHA-256 {entry.sha256}"),
        ("check", f"cifar evaluate {entry.file}"),
    ]
    return Row(cells, source, entry.accuracy == best)


def trade_offs(summary: Summary) -> dict[str, tuple[str, list[Point]]]:
    """Return accuracy over cost, by the title of the chart: the label of the cost, and the points."""
    of_runs, of_flop, of_files = [], [], []
    for result in summary.results:
        name, minutes = result.run.path.name, result.metrics.train_seconds / 60
        accuracy = f"{100 * result.scores.accuracy:.2f} %"
        title = f"{name}: {accuracy}, {minutes:.1f} minutes"
        of_runs.append(Point(minutes, result.scores.accuracy, result.network, title))
        if result.training_flop is not None:
            pflop = result.training_flop / 1e15
            title = f"{name}: {accuracy}, {pflop:.2f} PFLOP"
            of_flop.append(Point(pflop, result.scores.accuracy, result.network, title))
        for entry in result.exports:
            title = f"{name} {entry.format}: {100 * entry.accuracy:.2f} %, {entry.bytes / 1000:,.0f} kB"
            of_files.append(Point(entry.bytes / 1000, entry.accuracy, entry.format, title))
    charts = {
        "Accuracy over training time": ("Minutes of training, as each run recorded them on its machine", of_runs),
        "Accuracy over training operations": ("PFLOP of training: 10^15 floating-point operations", of_flop),
        "Accuracy over the size of a file": ("kB", of_files),
    }
    return {title: (cost, points) for title, (cost, points) in charts.items() if points}


def diagnoses(summary: Summary) -> tuple[dict[str, Diagnosis], list[str]]:
    """Return what `cifar diagnose --save` found, by run and format, and a sentence per file that changed since."""
    found, sentences = {}, []
    for result in summary.results:
        for entry in result.exports:
            of_file = saved.read(result.run.path / "exports" / entry.file)
            if of_file is None:
                continue
            if of_file.sha256 == entry.sha256:
                found[f"{result.run.path.name} {entry.format}"] = of_file.diagnosis
            else:
                sentences.append(f"{entry.file} is not the file that was diagnosed: `cifar diagnose --save` again.")
    return found, sentences


def _text(value: str) -> Cell:
    return Cell(value, value)


def _accuracy(accuracy: float, interval: tuple[float, float]) -> Cell:
    return Cell(numbers.plus_minus(f"{100 * accuracy:.2f}", interval), accuracy)


def test_sets(summary: Summary, images: Images) -> list[TestSet]:
    """Return the test sets of the runs, each with what its runs and their files say."""
    by_key: dict[tuple[str, bytes], TestSet] = {}
    for result in summary.results:
        metrics = result.metrics
        key = metrics.data_sha256, result.labels.tobytes()
        names = list(metrics.per_class)
        test_set = by_key.setdefault(key, TestSet(metrics.dataset, metrics.data_sha256, names, result.labels))
        test_set.predictions[result.run.path.name] = top1.of(result.probabilities)
        for entry in result.exports:
            of_file = _predictions(result, entry)
            if of_file is not None:
                test_set.predictions[f"{result.run.path.name} {entry.format}"] = of_file
    for (digest, _), test_set in by_key.items():
        names = list(test_set.predictions)
        test_set.left_out = len(names[MAX_PREDICTIONS:])
        for name in names[MAX_PREDICTIONS:]:
            del test_set.predictions[name]
        own = images.get(digest)
        if own is not None and len(own) == len(test_set.labels):
            test_set.pictures = pictures.draw(own, _of_interest(test_set))
    return list(by_key.values())


def _predictions(result: FinishedRun, entry: ManifestEntry) -> Top1 | None:
    """What an exported file says of every test image; None where that was not kept."""
    if FORMATS[entry.format].precision == "float32":  # as the run itself
        return None
    folder = result.run.path / "exports"
    if not top1.path_of(folder / entry.file).exists() or entry.n_test != len(result.labels):
        return None
    return top1.read(folder, entry)


def _of_interest(test_set: TestSet) -> NDArray[np.int64]:
    """The images that any run or file gets wrong: among them are all on which any two differ."""
    wrong = np.zeros(len(test_set.labels), np.bool_)
    for predictions in test_set.predictions.values():
        wrong |= predictions.classes != test_set.labels
    return np.flatnonzero(wrong)


def as_json(test_set: TestSet) -> dict[str, Any]:
    """Return a test set as the page's script reads it: arrays of bytes in base64."""
    predictions = []
    for name, top in test_set.predictions.items():
        predictions.append({"name": name, "classes": _base64(top.classes), "confidences": _base64(top.confidences)})
    shown = None
    if test_set.pictures is not None:
        shown = {
            "indices": test_set.pictures.indices,
            "sheets": test_set.pictures.sheets,
            "columns": pictures.COLUMNS,
            "per_sheet": pictures.PER_SHEET,
        }
    return {
        "name": f"{test_set.name} {test_set.sha256[:12]}",
        "classes": test_set.class_names,
        "labels": _base64(test_set.labels),
        "predictions": predictions,
        "pictures": shown,
    }


def _base64(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()
