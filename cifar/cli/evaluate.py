"""`cifar evaluate`: score a run's saved model again."""

from typing import TYPE_CHECKING

from cifar.cli.output import DataDir, Json, RunArgument, note, stderr, stdout, write_json
from cifar.errors import UsageError

if TYPE_CHECKING:
    from cifar.dataset import Dataset
    from cifar.run import Run


def evaluate(path: RunArgument, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Score a run's model.keras on the whole test set, and compare with what the run recorded.

    Example: cifar evaluate runs/first-none-s0
    """
    from cifar import environment, evaluation, exporting, training
    from cifar.report import terminal
    from cifar.run import Run

    run = Run(path)
    metrics = run.metrics
    data = data_of(run, data_dir)
    with stderr.status("Scoring"):
        environment.configure(run.recipe.threads)
        model = exporting.load_keras(run)
        probabilities = evaluation.predict(training.predictor(model), data.x_test)
    scores = evaluation.score(probabilities, data.y_test)
    if scores.accuracy != metrics["accuracy"]:
        note(f"The run recorded {metrics['accuracy']:.2%}; here it is {scores.accuracy:.2%}.")
    per_class = dict(zip(data.class_names, scores.per_class, strict=True))
    if as_json:
        keep = ("network", "augment", "seed", "weights_sha256", "dataset", "official", "data_sha256")
        write_json(
            {
                "path": str(path),
                **{key: metrics[key] for key in keep},
                "accuracy": scores.accuracy,
                "accuracy_interval": scores.interval,
                "recorded_accuracy": metrics["accuracy"],
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
    caption = (
        f"{scores.correct:,} of {scores.n:,} right; 95 % interval {low:.1%} to {high:.1%} (Wilson). "
        f"Loss {scores.loss:.4f}, calibration error {scores.ece:.4f}. {terminal.data_caption(metrics)}"
    )
    stdout.print(terminal.table(f"{path}", ("class", "accuracy>"), rows, caption))


def data_of(run: "Run", data_dir: DataDir) -> "Dataset":
    """The data that a run was trained on.

    Raises:
        UsageError: what is here has another digest.
    """
    from cifar import dataset

    name = run.recipe.dataset
    data = dataset.draw_synthetic() if name == "synthetic" else dataset.load_cifar10(data_dir, note)
    if data.sha256 != run.identity.data_sha256:
        raise UsageError(
            f"{run.path} was trained on {name} with digest {run.identity.data_sha256[:16]}…, "
            f"the {name} here has {data.sha256[:16]}…: its test set may differ."
        )
    return data
