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
from cifar.errors import CifarError, UsageError

if TYPE_CHECKING:
    from cifar.data.dataset import Dataset
    from cifar.recipes import Recipe
    from cifar.runs.run import Run
    from cifar.runs.schemas import Verification

CHECK_NAMES = ("repeated", "interrupted", "images", "exports")  # the keys of cifar.verify.CHECKS
DEFAULT_CHECKS = ["repeated"]
DEFAULT_THREADS = 2  # of the golden runs

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
Update = Annotated[bool, typer.Option("--update", help="With --golden: add the results of this machine.")]


def verify(
    path: OptionalRun = None,
    epochs: Epochs = None,
    check: Checks = None,
    threads: OtherThreads = None,
    golden: Golden = False,
    update: Update = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Repeat a run in a new process and compare the results.

    Weights, history and predictions are compared epoch by epoch, bit for bit. Exit code 1 names the first
    difference. With other versions, instruction sets or threads the distance is measured instead. The result is
    added to the run's verify.jsonl.

    Example: cifar verify runs/first-none-s0 --epochs 1
    """
    if golden == (path is not None):
        raise UsageError("cifar verify takes either a run folder or --golden.")
    if update and not golden:
        raise UsageError("--update goes with --golden.")
    if path is not None:
        _verify_run(path, check or DEFAULT_CHECKS, epochs, threads, data_dir, as_json)
    elif check or epochs:
        raise UsageError("--check and --epochs are for a run folder; --golden has none.")
    else:
        _verify_golden(threads or DEFAULT_THREADS, update, as_json)


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
    """Print the results of the checks; raise a CifarError that names the first difference."""
    from cifar.report import detail_tables
    from cifar.report.table import render

    first_difference = None
    for verification in reversed(verifications):
        if verification.result == "different":
            first_difference = verification.message
    if as_json:
        checks = [verification.model_dump() for verification in verifications]
        write_json({"path": str(path), "equal": first_difference is None, "checks": checks})
    else:
        rows = [(path.name, verification) for verification in verifications]
        stdout.print(render(detail_tables.verifications(rows)))
    if first_difference:
        raise CifarError(f"{path}: {first_difference}.")


def _callback_factory(run: "Run", data: "Dataset") -> Any:
    from cifar.report import progress

    images = len(data.head(run.recipe.train_images).x_train)
    return lambda recipe: progress.ProgressCallback(stderr, recipe, images, 1, 1)


def _verify_golden(threads: int, update: bool, as_json: bool) -> None:
    from cifar.system import environment
    from cifar.verify import golden

    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if update and in_ci:
        raise UsageError("--update changes the golden results; it is refused in CI (the variable CI is set).")
    expected = golden.find_entry(threads)
    if expected is None and not update:
        _skip_golden(threads, in_ci, as_json)
        return
    with stderr.status("Starting TensorFlow"):
        environment.configure(threads)
    trained = golden.train(threads, _golden_callback)
    if expected is None:
        golden.add_entry(trained)
        note(f"Added to {golden.TABLE}.")
        _print_golden("added", trained.reproducibility_key, as_json)
        return
    difference = golden.find_difference(expected, trained)
    if difference:
        raise CifarError(
            f"Training has changed: {difference}. If this is intended, increase TRAINING_STEP in environment.py."
        )
    _print_golden("equal", trained.reproducibility_key, as_json)


def _skip_golden(threads: int, in_ci: bool, as_json: bool) -> None:
    """Say that there is nothing to compare with; in CI that is a CifarError."""
    from cifar.verify import golden

    reason = f"No golden runs for this machine's versions, instruction sets and {threads} threads"
    if in_ci:
        raise CifarError(f"{reason}: add them with `cifar verify --golden --update` on such a machine.")
    note(f"{reason}: skipped. `cifar verify --golden --update` adds them.")
    _print_golden("skipped", golden.reproducibility_key(threads), as_json)


@contextmanager
def _golden_callback(recipe: "Recipe", number: int) -> Iterator[Any]:
    from cifar.data.dataset import SYNTHETIC_TRAIN
    from cifar.report import progress
    from cifar.verify import golden

    with progress.ProgressCallback(stderr, recipe, SYNTHETIC_TRAIN, number, len(golden.RUNS)) as callback:
        yield callback


def _print_golden(outcome: str, reproducibility_key: dict[str, Any], as_json: bool) -> None:
    if as_json:
        write_json({"golden": outcome, "reproducibility_key": reproducibility_key})
    else:
        stdout.print(f"Golden runs: {outcome}.", highlight=False)
