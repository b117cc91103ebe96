"""`cifar evaluate`: score a run's saved model again, or anybody's model file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.options import DataDir, Json
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import UsageError, one_of

if TYPE_CHECKING:
    from cifar.data.dataset import Dataset
    from cifar.inference.external import Preprocessing
    from cifar.metrics.classification import Scores
    from cifar.runs.run import Run

InputRange = Annotated[str | None, typer.Option(help="Of a float input: 0..1, 0..255 or -1..1.", metavar="RANGE")]
Channels = typer.Option(help="Or of pixels from 0 to 1: three numbers with commas.", metavar="R,G,B")


def evaluate(
    path: Annotated[Path, typer.Argument(help="A run folder, or a model file.", metavar="PATH", show_default=False)],
    input_range: InputRange = None,
    mean: Annotated[str | None, Channels] = None,
    std: Annotated[str | None, Channels] = None,
    labels: Annotated[
        str | None, typer.Option(help="The file's class order: ten names with commas, or a file of ten lines.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="For a file: cifar10 (default) or synthetic.", metavar="NAME")
    ] = None,
    data_dir: DataDir = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of a file's runtime (default 2).", metavar="N")] = None,
    as_json: Json = False,
) -> None:
    """Score a run's model.keras, or any .onnx, .tflite or SavedModel of ten classes, on the whole test set.

    Example: cifar evaluate model.onnx --input-range 0..1
    """
    from cifar.inference import scoring

    if (path / "recipe.json").exists() or (path.is_dir() and not (path / "saved_model.pb").exists()):
        if any(option is not None for option in (input_range, mean, std, labels, data, threads)):
            raise UsageError(f"{path} is a run: its data, threads, pixels and classes are known; name none of them.")
        _evaluate_run(path, data_dir, as_json)
    else:
        _evaluate_file(
            path, scoring.parse_preprocessing(input_range, mean, std), labels, data, data_dir, threads or 2, as_json
        )


def _evaluate_run(path: Path, data_dir: DataDir, as_json: bool) -> None:
    from cifar import networks
    from cifar.metrics import classification
    from cifar.report import tables
    from cifar.runs.keras_model import load_keras
    from cifar.runs.run import Run
    from cifar.system import environment

    run = Run(path)
    metrics = run.metrics
    data = data_of(run, data_dir)
    with stderr.status("Scoring"):
        environment.configure(run.recipe.threads)
        model = load_keras(run)
        probabilities = classification.predict(networks.predictor(model), data.x_test)
    scores = classification.score(probabilities, data.y_test)
    if scores.accuracy != metrics.accuracy:
        note(f"The run recorded {metrics.accuracy:.2%}; here it is {scores.accuracy:.2%}.")
    keep = {"network", "augment", "seed", "weights_sha256", "dataset", "official", "data_sha256"}
    facts = {
        "path": str(path),
        **metrics.model_dump(include=keep),
        "recorded_accuracy": metrics.accuracy,
        "probabilities_sha256": classification.sha256(probabilities),
    }
    _answer(path, facts, scores, data, tables.caption_of(metrics), as_json)


def _evaluate_file(
    path: Path,
    preprocessing: "Preprocessing",
    labels: str | None,
    chosen: str | None,
    data_dir: DataDir,
    threads: int,
    as_json: bool,
) -> None:
    from cifar.data import dataset
    from cifar.formats import manifest
    from cifar.inference import scoring
    from cifar.inference.external import PreprocessingNeededError, format_of
    from cifar.metrics import classification
    from cifar.report import tables

    kind = format_of(path)
    line = manifest.verify_checksum(path)
    name = one_of("data set", chosen or (line.dataset if line else "cifar10"), dataset.NAMES)
    if line is None and kind == "saved-model":
        note(
            f"{path} is a TensorFlow program that no manifest vouches for: it can run any of TensorFlow's operations."
        )
    if name == "synthetic" and data_dir is not None:
        raise UsageError(dataset.NOT_OF_SYNTHETIC)
    data = dataset.by_name(name, data_dir, note, download=False)
    order = scoring.class_order(labels) if labels else None
    with stderr.status("Scoring"):
        try:
            scored = scoring.score(path, data, preprocessing, order, threads)
        except PreprocessingNeededError as error:
            raise scoring.with_trials(error, path, data, order) from error
    known = {"dataset": data.name, "official": data.official, "data_sha256": data.sha256}
    facts = {
        "path": str(path),
        "format": scored.format,
        "vouched": scored.line is not None,
        "outputs": scored.outputs,
        **known,
        "probabilities_sha256": classification.sha256(scored.probabilities),
    }
    vouched = "Its manifest vouches for the file." if scored.line else "No manifest vouches for the file."
    caption = f"{tables.data_caption(data.name, data.official, data.sha256, len(data.x_test))} {vouched}"
    _answer(path, facts, classification.score(scored.probabilities, data.y_test), data, caption, as_json)


def _answer(
    path: Path, facts: dict[str, Any], scores: "Scores", data: "Dataset", caption: str, as_json: bool
) -> None:
    """Print scores, as a table or as JSON."""
    from cifar.report.table import Table, render

    per_class = dict(zip(data.class_names, scores.per_class, strict=True))
    if as_json:
        write_json(
            {
                **facts,
                "accuracy": scores.accuracy,
                "accuracy_interval": scores.interval,
                "correct": scores.correct,
                "n_test": scores.n,
                "loss": scores.loss,
                "ece": scores.ece,
                "per_class": per_class,
                "confusion": scores.confusion.tolist(),
            }
        )
        return
    low, high = scores.interval
    rows = [("all", f"{scores.accuracy:.1%}"), *((name, f"{value:.1%}") for name, value in per_class.items())]
    text = (
        f"{scores.correct:,} of {scores.n:,} right; 95 % interval {low:.1%} to {high:.1%} (Wilson). "
        f"Loss {scores.loss:.4f}, calibration error {scores.ece:.4f}. {caption}"
    )
    stdout.print(render(Table(f"{path}", ("class", "accuracy>"), rows, [text])))


def data_of(run: "Run", data_dir: DataDir) -> "Dataset":
    """The data that a run was trained on.

    Raises:
        UsageError: what is here has another digest.
    """
    from cifar.data import dataset

    name = run.recipe.dataset
    data = dataset.by_name(name, data_dir, note)
    if data.sha256 != run.identity.data_sha256:
        raise UsageError(
            f"{run.path} was trained on {name} with digest {run.identity.data_sha256[:16]}…, "
            f"the {name} here has {data.sha256[:16]}…: its test set may differ."
        )
    return data
