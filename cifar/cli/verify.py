"""`cifar verify`: make a run's results again and compare them, to the bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.evaluate import data_of
from cifar.cli.options import DataDir, Json
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import CifarError, UsageError, one_of

if TYPE_CHECKING:
    from cifar.data.dataset import Dataset
    from cifar.recipes import Recipe
    from cifar.runs.run import Run


def verify(
    path: Annotated[Path | None, typer.Argument(help="A run folder.", metavar="RUN", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Only the run's first N epochs.", metavar="N")] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="repeated (default), interrupted, images, exports, or all; repeat for several.", metavar="RUNG"
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Another count than the run's: states the distance.", metavar="N")
    ] = None,
    golden: Annotated[
        bool, typer.Option("--golden", help="Train the golden runs; compare with the committed table.")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="With --golden: add this machine's key.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Train a run again in this fresh process and compare weights, history and predictions, epoch by epoch.

    Exit code 1 names the first difference. Under other versions, instruction sets or threads the distance is stated
    instead. What was found is added to the run's verify.jsonl.

    Example: cifar verify runs/first-none-s0 --epochs 1
    """
    if golden == (path is not None):
        raise UsageError("cifar verify takes either a run folder or --golden.")
    if update and not golden:
        raise UsageError("--update goes with --golden.")
    if path is None:
        if check or epochs:
            raise UsageError("--check and --epochs speak of a run; --golden has none.")
        _verify_golden(threads or 2, update, as_json)
    else:
        _verify_run(path, check or ["repeated"], epochs, threads, data_dir, as_json)


def _verify_run(
    path: Path, checks: list[str], epochs: int | None, threads: int | None, data_dir: DataDir, as_json: bool
) -> None:
    from cifar import verify
    from cifar.report import tables
    from cifar.report.table import render
    from cifar.runs.run import Run
    from cifar.system import environment
    from cifar.verify.result import CheckOptions

    wanted = [one_of("check", name, (*verify.CHECKS, "all")) for name in checks]
    names = list(verify.CHECKS) if "all" in wanted else list(dict.fromkeys(wanted))
    run = Run(path)
    data = data_of(run, data_dir)
    options = CheckOptions(threads or run.recipe.threads, _make_callback(run, data), epochs)
    with stderr.status("Starting TensorFlow"):
        environment.configure(options.threads, run.environment.get("device", "cpu"), run.recipe.backend)
    verifications = []
    for name in names:
        with stderr.status(f"{name}: {verify.CHECKS[name].shows}?"):
            verifications.append(verify.run_check(run, data, name, options))
    different = [found for found in verifications if found.result == "different"]
    if as_json:
        write_json(
            {"path": str(path), "equal": not different, "checks": [found.model_dump() for found in verifications]}
        )
    else:
        stdout.print(render(tables.verifications([(path.name, found) for found in verifications])))
    if different:
        raise CifarError(f"{path}: {different[0].message}.")


def _make_callback(run: "Run", data: "Dataset") -> Any:
    from cifar.report import progress

    images = len(data.head(run.recipe.train_images).x_train)
    return lambda recipe: progress.ProgressCallback(stderr, recipe, images, 1, 1)


def _verify_golden(threads: int, update: bool, as_json: bool) -> None:
    from cifar.data import dataset
    from cifar.report import progress
    from cifar.system import environment
    from cifar.verify import golden

    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if update and in_ci:
        raise UsageError("--update makes what is golden; in CI (the variable CI is set) nothing may.")
    entry = golden.find(threads)
    if entry is None and not update:
        reason = f"No golden runs for this machine's versions, instruction sets and {threads} threads"
        if in_ci:
            raise CifarError(f"{reason}: add them with `cifar verify --golden --update` on such a machine.")
        note(f"{reason}: skipped. `cifar verify --golden --update` adds them.")
        _answer({"golden": "skipped", "key": golden.key(threads)}, "skipped", as_json)
        return
    with stderr.status("Starting TensorFlow"):
        environment.configure(threads)

    @contextmanager
    def make_callback(recipe: "Recipe", number: int) -> Iterator[Any]:
        with progress.ProgressCallback(stderr, recipe, dataset.SYNTHETIC_TRAIN, number, len(golden.RUNS)) as callback:
            yield callback

    made = golden.measure(threads, make_callback)
    difference = golden.difference(entry, made) if entry else None
    if difference:
        raise CifarError(
            f"Training has changed: {difference}. If that is meant, count TRAINING_STEP up in environment.py."
        )
    if entry is None:
        golden.add(made)
        note(f"Added to {golden.TABLE}.")
    _answer({"golden": "equal" if entry else "added", "key": made.key}, "equal" if entry else "added", as_json)


def _answer(facts: dict[str, Any], word: str, as_json: bool) -> None:
    if as_json:
        write_json(facts)
    else:
        stdout.print(f"Golden runs: {word}.", highlight=False)
