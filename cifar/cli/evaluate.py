"""`cifar evaluate`: score a run's saved model again, or any model file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.options import (
    DataDir,
    FileData,
    InputRange,
    Json,
    Labels,
    Mean,
    Runtime,
    RuntimeThreads,
    Std,
    TestTimeAugmentation,
)
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import UsageError, one_of

if TYPE_CHECKING:
    from cifar.data.dataset import Dataset
    from cifar.formats.manifest import ManifestEntry
    from cifar.metrics.classification import Scores


@dataclass(frozen=True)
class Evaluation:
    """What `cifar evaluate` found.

    Attributes:
        facts: of the model, ready for JSON.
        scores: on the test set.
        data: with the test set.
        caption: a sentence on data and file for the table.
        augmented: the scores with test-time augmentation; None if none was wanted.
    """

    facts: dict[str, Any]
    scores: "Scores"
    data: "Dataset"
    caption: str
    augmented: "Scores | None" = None


def evaluate(
    path: Annotated[Path, typer.Argument(help="A run folder, or a model file.", metavar="PATH", show_default=False)],
    input_range: InputRange = None,
    mean: Mean = None,
    std: Std = None,
    labels: Labels = None,
    data: FileData = None,
    data_dir: DataDir = None,
    threads: RuntimeThreads = None,
    runtime: Runtime = None,
    test_time_augmentation: TestTimeAugmentation = None,
    as_json: Json = False,
) -> None:
    """Score a run or a model file on the whole test set.

    A model file is any .onnx, .tflite or SavedModel with ten classes.

    Test-time augmentation averages the log-probabilities of several views of an image: the image and its mirror
    image (mirror), and both shifted diagonally by a pixel to either side (mirror-shift, that of airbench94). Its
    accuracy stands beside the plain one and never in its place.

    Example: cifar evaluate model.onnx --input-range 0..1
    """
    from cifar.inference.preprocessing import parse_preprocessing

    if is_run(path):
        for option in (input_range, mean, std, labels, data, threads, runtime):
            if option is not None:
                raise UsageError(
                    f"{path} is a run: its data, threads, runtime, pixels and classes are known; name none of them."
                )
        evaluation = _evaluate_run(path, data_dir, test_time_augmentation)
    else:
        preprocessing = parse_preprocessing(input_range, mean, std)
        evaluation = _evaluate_file(
            path, preprocessing, labels, data, data_dir, threads or 2, runtime, test_time_augmentation
        )
    if as_json:
        facts = {**evaluation.facts, **_score_facts(evaluation.scores, evaluation.data)}
        if evaluation.augmented:
            augmented = _score_facts(evaluation.augmented, evaluation.data)
            facts["test_time_augmentation"] = {"name": test_time_augmentation, **augmented}
        write_json(facts)
    else:
        _print_table(path, evaluation, test_time_augmentation)


def is_run(path: Path) -> bool:
    """Whether a path is taken for a run folder: a folder that is not a SavedModel."""
    if (path / "recipe.json").exists():
        return True
    return path.is_dir() and not (path / "saved_model.pb").exists()


def data_set_of(data: str | None, entry: "ManifestEntry | None") -> str:
    """Return the name of a model file's data set: as the user says, else the manifest's, else cifar10."""
    from cifar.data import dataset

    recorded = entry.dataset if entry else "cifar10"
    return one_of("data set", data or recorded, dataset.NAMES)


def warn_of_program(path: Path, format_name: str) -> None:
    """Say that a SavedModel is a program, unless it is the user's own; a manifest beside it may be forged."""
    from cifar.formats import origin

    if format_name == origin.PROGRAM and not origin.is_own(path):
        note(f"{path} is {origin.NOTE}")


def _evaluate_run(path: Path, data_dir: Path | None, test_time_augmentation: str | None) -> Evaluation:
    from cifar import networks
    from cifar.metrics import classification, views
    from cifar.report import captions, progress
    from cifar.runs.loading import load_data, load_keras
    from cifar.runs.run import Run
    from cifar.system import environment

    run = Run(path)
    metrics = run.metrics
    data = load_data(run, data_dir, note)
    images = views.stack_views(data.x_test, test_time_augmentation)
    with progress.steps(stderr, "Scoring", len(images)) as advance:
        environment.configure(run.recipe.threads)
        predictor = networks.predictor(load_keras(run))
        of_views = classification.predict(predictor, images, advance=advance)
    probabilities, average = views.split_views(of_views, test_time_augmentation)
    augmented = None if average is None else classification.score(average, data.y_test)
    scores = classification.score(probabilities, data.y_test)
    if scores.accuracy != metrics.accuracy:
        note(f"The run recorded {metrics.accuracy:.2%}; here it is {scores.accuracy:.2%}.")
    facts = {
        "path": str(path),
        "network": metrics.network,
        "augment": metrics.augment,
        "seed": metrics.seed,
        "weights_sha256": metrics.weights_sha256,
        "dataset": metrics.dataset,
        "official": metrics.official,
        "data_sha256": metrics.data_sha256,
        "recorded_accuracy": metrics.accuracy,
        "probabilities_sha256": classification.sha256(probabilities),
    }
    caption = captions.caption_of(metrics)
    return Evaluation(facts, scores, data, caption, augmented)


def _evaluate_file(
    path: Path,
    preprocessing: Any,
    labels: str | None,
    data_name: str | None,
    data_dir: Path | None,
    threads: int,
    runtime: str | None,
    test_time_augmentation: str | None,
) -> Evaluation:
    from cifar.data import dataset
    from cifar.formats import FORMATS, manifest
    from cifar.inference import scoring
    from cifar.inference.external import format_of
    from cifar.inference.preprocessing import PreprocessingNeededError
    from cifar.inference.runtimes import check_runtime
    from cifar.metrics import classification
    from cifar.metrics.views import TEST_TIME_AUGMENTATIONS
    from cifar.report import progress

    format_name = format_of(path)
    if runtime is not None:
        check_runtime(runtime, format_name)
    entry = manifest.verify_checksum(path)
    name = data_set_of(data_name, entry)
    warn_of_program(path, format_name)
    if name == "synthetic" and data_dir is not None:
        raise UsageError(dataset.NOT_OF_SYNTHETIC)
    data = dataset.by_name(name, data_dir, note, download=False)
    class_order = scoring.parse_class_order(labels) if labels else None
    try:
        views = len(TEST_TIME_AUGMENTATIONS[test_time_augmentation]) if test_time_augmentation else 1
        with progress.steps(stderr, "Scoring", views * len(data.x_test)) as advance:
            scored = scoring.score_file(
                path, data, preprocessing, class_order, threads, advance, test_time_augmentation, runtime
            )
    except PreprocessingNeededError as error:
        raise scoring.suggest_ranges(error, path, data, class_order) from error
    facts = {
        "path": str(path),
        "format": scored.format,
        "runtime": runtime or FORMATS[scored.format].runtime,
        "checksum_verified": scored.entry is not None,
        "outputs": scored.outputs,
        "dataset": data.name,
        "official": data.official,
        "data_sha256": data.sha256,
        "probabilities_sha256": classification.sha256(scored.probabilities),
    }
    scores = classification.score(scored.probabilities, data.y_test)
    augmented = None
    if scored.augmented is not None:
        augmented = classification.score(scored.augmented, data.y_test)
    return Evaluation(facts, scores, data, _file_caption(data, scored.entry), augmented)


def _file_caption(data: "Dataset", entry: "ManifestEntry | None") -> str:
    from cifar.report import captions

    data_text = captions.data_caption(data.name, data.official, data.sha256, len(data.x_test))
    if entry is None:
        return f"{data_text} The file is in no manifest: its checksum was not verified."
    return f"{data_text} The file's SHA-256 is the manifest's."


def _per_class(scores: "Scores", data: "Dataset") -> dict[str, float]:
    return dict(zip(data.class_names, scores.per_class, strict=True))


def _score_facts(scores: "Scores", data: "Dataset") -> dict[str, Any]:
    """Scores ready for JSON."""
    return {
        "accuracy": scores.accuracy,
        "accuracy_interval": scores.interval,
        "correct": scores.correct,
        "n_test": scores.n,
        "loss": scores.loss,
        "ece": scores.ece,
        "per_class": _per_class(scores, data),
        "confusion": scores.confusion.tolist(),
    }


def _print_table(path: Path, evaluation: Evaluation, test_time_augmentation: str | None) -> None:
    from cifar.report.table import Table, render

    columns = {"accuracy>": evaluation.scores}
    captions = [f"{_summary(evaluation.scores)} {evaluation.caption}"]
    if evaluation.augmented:
        columns[f"with {test_time_augmentation}>"] = evaluation.augmented
        captions.append(f"With test-time augmentation ({test_time_augmentation}): {_summary(evaluation.augmented)}")
    rows = [["all", *[f"{scores.accuracy:.1%}" for scores in columns.values()]]]
    for index, name in enumerate(evaluation.data.class_names):
        rows.append([name, *[f"{scores.per_class[index]:.1%}" for scores in columns.values()]])
    stdout.print(render(Table(str(path), ("class", *columns), rows, captions)))


def _summary(scores: "Scores") -> str:
    low, high = scores.interval
    return (
        f"{scores.correct:,} of {scores.n:,} correct; 95 % interval {low:.1%} to {high:.1%} (Wilson). "
        f"Loss {scores.loss:.4f}, calibration error {scores.ece:.4f}."
    )
