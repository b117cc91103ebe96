"""`cifar verify`: repeat a run and compare its results, bit for bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.list_options import name_list
from cifar.cli.options import DataDir, Json
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import CifarError, NotComparableError, UsageError

if TYPE_CHECKING:
    from cifar.data.dataset import Dataset
    from cifar.recipes import Recipe
    from cifar.runs.run import Run
    from cifar.runs.schemas import Verification
    from cifar.verify.check_result import BaselineResult

CHECK_NAMES = ("repeated", "interrupted", "images", "exports")  # the keys of cifar.verify.CHECKS
DEFAULT_CHECKS = ["repeated"]
DEFAULT_THREADS = 2  # of the golden runs and the quality gate
RELEASED = Path("../../exports")  # the released files, from the folder of the gate's baseline

OptionalRun = Annotated[Path | None, typer.Argument(help="A run folder.", metavar="RUN", show_default=False)]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Repeat only the run's first N epochs.", metavar="N", show_default=False)
]
Checks = Annotated[
    list[str] | None,
    name_list(
        "check",
        CHECK_NAMES,
        "--check",
        or_all=True,
        help=f"{', '.join(CHECK_NAMES)}, or all; several with commas.  [default: repeated]",
        show_default=False,
    ),
]
OtherThreads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Other than the run's: then the distance between the results is measured.",
        metavar="N",
        show_default=False,
    ),
]
Golden = Annotated[
    bool, typer.Option("--golden", help="Train the golden runs and compare them with the committed table.")
]
Gate = Annotated[
    Path | None,
    typer.Option(help="Train, export and score a small model and compare with this baseline.", metavar="FILE"),
]
Update = Annotated[bool, typer.Option("--update", help="With --golden or --gate: add the results of this machine.")]
Save = Annotated[
    Path | None,
    typer.Option(help="With --golden or --gate: write the table that --update would write here.", metavar="FILE"),
]


def verify(
    path: OptionalRun = None,
    epochs: Epochs = None,
    check: Checks = None,
    threads: OtherThreads = None,
    golden: Golden = False,
    gate: Gate = None,
    update: Update = False,
    save: Save = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Repeat a run in a new process and compare the results.

    Weights, history and predictions are compared epoch by epoch, bit for bit. Exit code 0: equal; 1: different, and
    the first difference is named; 6: not comparable (other versions, processor or threads), and the distance is
    stated. The result is added to the run's verify.jsonl.

    Example: cifar verify runs/first-none-s0 --epochs 1
    """
    if (path is not None) + golden + (gate is not None) != 1:
        raise UsageError("cifar verify takes either a run folder or --golden or --gate.")
    if path is not None and (update or save):
        raise UsageError("--update and --save go with --golden or --gate.")
    if path is None and (check or epochs):
        raise UsageError("--check and --epochs are for a run folder; --golden and --gate have none.")
    if update and _in_ci():
        raise UsageError("--update changes what is compared with; it is refused in CI (the variable CI is set).")
    if path is not None:
        _verify_run(path, check or DEFAULT_CHECKS, epochs, threads, data_dir, as_json)
    elif gate is not None:
        _verify_gate(gate, threads or DEFAULT_THREADS, update, save, as_json)
    else:
        _verify_golden(threads or DEFAULT_THREADS, update, save, as_json)


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _verify_run(
    path: Path, checks: list[str], epochs: int | None, threads: int | None, data_dir: DataDir, as_json: bool
) -> None:
    from cifar.report import progress
    from cifar.runs.loading import load_data
    from cifar.runs.run import Run
    from cifar.system import environment
    from cifar.verify import CHECKS, run_check
    from cifar.verify.check_result import CheckOptions

    run = Run(path)
    data = load_data(run, data_dir, note)
    show_progress = partial(progress.steps, stderr)
    options = CheckOptions(threads or run.recipe.threads, _callback_factory(run, data), epochs, show_progress)
    with stderr.status("Starting TensorFlow"):
        environment.configure(options.threads, run.environment.get("device", "cpu"), run.recipe.backend)
    verifications = []
    for name in checks:
        with stderr.status(f"Checking {name}: {CHECKS[name].description}"):
            verifications.append(run_check(run, data, name, options))
    _print_verifications(path, verifications, as_json)


def _print_verifications(path: Path, verifications: "list[Verification]", as_json: bool) -> None:
    """Print the results of the checks; raise the error of the worst of them, with its message."""
    from cifar.report import detail_tables
    from cifar.report.table import render

    first_messages: dict[str, str] = {}
    for verification in verifications:
        first_messages.setdefault(verification.result, verification.message)
    outcome = "equal"
    if "different" in first_messages:
        outcome = "different"
    elif "distance" in first_messages:
        outcome = "not comparable"
    if as_json:
        checks = [verification.model_dump() for verification in verifications]
        write_json({"path": str(path), "outcome": outcome, "equal": outcome == "equal", "checks": checks})
    else:
        rows = [(path.name, verification) for verification in verifications]
        stdout.print(render(detail_tables.verifications(rows)))
    if outcome == "different":
        raise CifarError(f"{path}: {first_messages['different']}.")
    if outcome == "not comparable":
        raise NotComparableError(f"{path}: not comparable: {first_messages['distance']}.")


def _callback_factory(run: "Run", data: "Dataset") -> Any:
    from cifar.report import progress

    images = len(data.head(run.recipe.train_images).x_train)
    return lambda recipe: progress.ProgressCallback(stderr, recipe, images, 1, 1)


def _verify_golden(threads: int, update: bool, save: Path | None, as_json: bool) -> None:
    from cifar.system import environment
    from cifar.verify import golden
    from cifar.verify.check_result import BaselineResult

    table = golden.TABLE if update else save
    closest = golden.find_closest_entry(threads)
    if closest is None and table is None:
        raise CifarError(
            "No golden runs of this training step: `cifar verify --golden --update` adds this machine's."
        )
    with stderr.status("Starting TensorFlow"):
        environment.configure(threads)
    trained = golden.train(threads, _golden_callback)
    result, outcome = BaselineResult([], []), "added"
    if closest is not None:
        result = golden.compare(closest, trained)
        outcome = result.outcome
    if table and (result.key_differences or not result.differences):
        golden.add_entry(trained, to=table)
        note(f"Written: {table}.")
    _print_result("golden", "Golden runs", outcome, result, trained.reproducibility_key, as_json)
    if result.differences:
        raise CifarError(
            f"Training has changed: {result.differences[0]}. "
            "If this is intended, increase TRAINING_STEP in environment.py."
        )


def _verify_gate(path: Path, threads: int, update: bool, save: Path | None, as_json: bool) -> None:
    from cifar.system import environment
    from cifar.verify import gate_baseline, quality_gate
    from cifar.verify.check_result import BaselineResult

    baseline = None
    if path.exists() or not update:
        baseline = gate_baseline.read(path)
    with stderr.status("Starting TensorFlow"):
        environment.configure(threads)
    with stderr.status("Training, exporting and scoring a small model"):
        measured = quality_gate.measure(threads, path.parent / RELEASED)
    result, outcome = BaselineResult([], []), "added"
    if baseline is not None:
        result = gate_baseline.compare(baseline, measured)
        outcome = result.outcome
    table = path if update else save
    if table:
        gate_baseline.write(table, measured, baseline)
        note(f"Written: {table}.")
    key = measured.measurement.reproducibility_key
    _print_result("gate", "Quality gate", outcome, result, key, as_json)
    if result.differences:
        raise CifarError(f"Quality has changed: {'; '.join(result.differences)}.")


@contextmanager
def _golden_callback(recipe: "Recipe", number: int) -> Iterator[Any]:
    from cifar.data.dataset import SYNTHETIC_TRAIN
    from cifar.report import progress
    from cifar.verify import golden

    with progress.ProgressCallback(stderr, recipe, SYNTHETIC_TRAIN, number, len(golden.RUNS)) as callback:
        yield callback


def _print_result(
    name: str, title: str, outcome: str, result: "BaselineResult", key: dict[str, Any], as_json: bool
) -> None:
    """Print the outcome of a comparison with committed results, and what they do not know of this machine."""
    if result.key_differences:
        note(
            f"No results of such a machine are committed ({'; '.join(result.key_differences)}): compared within "
            "tolerances instead of bit by bit. `--save FILE` writes the table with this machine's added."
        )
    if as_json:
        write_json(
            {
                name: outcome,
                "differences": result.differences,
                "reproducibility_key": key,
                "key_differences": result.key_differences,
            }
        )
    else:
        stdout.print(f"{title}: {outcome}.", highlight=False)
