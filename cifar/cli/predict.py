"""`cifar predict`: the classes that a model file gives pictures of the user's."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.evaluate import data_set_of, is_run, warn_of_program
from cifar.cli.options import FileData, InputRange, Json, Labels, Mean, RuntimeThreads, Std
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cifar.inference.pictures import Picture
    from cifar.metrics.classification import Probabilities

MAX_TOP = 10


def predict(
    model: Annotated[
        Path,
        typer.Argument(help="A model file, or a run folder with exports.", metavar="MODEL", show_default=False),
    ],
    pictures: Annotated[
        list[Path],
        typer.Argument(help="Pictures of any size.", metavar="PICTURE", show_default=False),
    ],
    top: Annotated[int, typer.Option(min=1, max=MAX_TOP, help="How many classes are shown.", metavar="N")] = 3,
    input_range: InputRange = None,
    mean: Mean = None,
    std: Std = None,
    labels: Labels = None,
    data: FileData = None,
    threads: RuntimeThreads = None,
    as_json: Json = False,
) -> None:
    """Print the most probable classes of pictures.

    The model is a file of ours, or any .onnx, .tflite or SavedModel with ten classes. Pictures are cropped to the
    middle square and scaled to 32x32; the output says how each was changed.

    Example: cifar predict model.onnx picture.png
    """
    from cifar.formats import manifest
    from cifar.inference.external import format_of
    from cifar.inference.pictures import load_picture
    from cifar.inference.preprocessing import parse_preprocessing

    preprocessing = parse_preprocessing(input_range, mean, std)
    path = _exported_file(model) if is_run(model) else model
    format_name = format_of(path)
    entry = manifest.verify_checksum(path)
    class_names = _class_names(labels, data_set_of(data, entry))
    loaded = list(map(load_picture, pictures))
    warn_of_program(path, format_name)
    with stderr.status("Classifying"):
        probabilities = _predict(path, format_name, loaded, preprocessing, threads or 2)
    if as_json:
        write_json({"model": str(path), "predictions": _facts(loaded, probabilities, class_names, top)})
    else:
        _print_table(path, loaded, probabilities, class_names, top)


def _exported_file(folder: Path) -> Path:
    """The ONNX file of a run.

    Raises:
        UsageError: the folder is not a run, or has no such file.
    """
    from cifar.formats import FORMATS
    from cifar.runs.run import Run

    run = Run(folder)
    path = run.path / "exports" / f"{run.path.name}{FORMATS['onnx'].suffix}"
    if not path.exists():
        raise UsageError(f"{folder}: this run has no ONNX file; `cifar export {folder}` writes it.")
    return path


def _class_names(labels: str | None, data_set: str) -> "Sequence[str]":
    """The classes in the order of the output: as the user says, else those of the data set.

    Raises:
        UsageError: not ten names.
    """
    from cifar.data import archive, synthetic
    from cifar.inference.scoring import parse_class_order
    from cifar.metrics.classification import CLASSES

    if labels is None:
        return synthetic.CLASS_NAMES if data_set == "synthetic" else archive.CLASS_NAMES
    names = parse_class_order(labels)
    if len(set(names)) != CLASSES:
        raise UsageError(f"--labels: expected {CLASSES} different names, found {', '.join(names)}.")
    return names


def _predict(
    path: Path, format_name: str, pictures: "Sequence[Picture]", preprocessing: Any, threads: int
) -> "Probabilities":
    """The probabilities of each picture, (N, 10)."""
    import numpy as np

    from cifar.inference.isolated_prediction import predict_file
    from cifar.inference.preprocessing import PreprocessingNeededError
    from cifar.inference.scoring import TIME_LIMIT, as_probabilities

    images = np.stack([picture.image for picture in pictures])
    try:
        raw = predict_file(format_name, path, images, threads, TIME_LIMIT, preprocessing)
    except PreprocessingNeededError as error:
        raise UsageError(
            f"{error} Say it with --input-range, or --mean and --std; `cifar evaluate` tries the ranges."
        ) from error
    outputs, probabilities = as_probabilities(raw)
    if outputs == "logits":
        note("The file gives logits; a softmax makes them probabilities.")
    return probabilities


def _top_classes(row: Any, class_names: "Sequence[str]", top: int) -> list[tuple[str, float]]:
    """The most probable classes of a picture, with their probabilities."""
    ranked = (-row).argsort(kind="stable")[:top]
    return [(class_names[index], float(row[index])) for index in ranked]


def _facts(
    pictures: "Sequence[Picture]", probabilities: "Probabilities", class_names: "Sequence[str]", top: int
) -> list[dict[str, Any]]:
    """The predictions ready for JSON."""
    facts = []
    for picture, row in zip(pictures, probabilities, strict=True):
        classes = [{"class": name, "probability": value} for name, value in _top_classes(row, class_names, top)]
        facts.append({"picture": str(picture.path), "preparation": picture.preparation, "classes": classes})
    return facts


def _print_table(
    path: Path,
    pictures: "Sequence[Picture]",
    probabilities: "Probabilities",
    class_names: "Sequence[str]",
    top: int,
) -> None:
    from cifar.report.table import Table, render

    rows, notes = [], []
    for picture, row in zip(pictures, probabilities, strict=True):
        classes = [f"{name} {value:.1%}" for name, value in _top_classes(row, class_names, top)]
        rows.append((str(picture.path), ", ".join(classes)))
        notes.append(f"{picture.path}: {picture.preparation}.")
    stdout.print(render(Table(f"Predictions of {path.name}", ("picture", "classes"), rows, notes)))
