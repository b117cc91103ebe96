"""`cifar train`: train, evaluate, export and report."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli import interrupt
from cifar.cli.list_options import one_name
from cifar.cli.options import DataDir, Details, Json, Networks, Policies, Seeds, Threads
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.cli.recipe_options import ProfileName, RecipeName, grid, with_field_options
from cifar.errors import BusyError, CifarError, UsageError
from cifar.formats import FLOAT32_FORMATS

if TYPE_CHECKING:
    from cifar.analysis.summary import Summary
    from cifar.data.dataset import Dataset
    from cifar.recipes import Recipe
    from cifar.training.grid import RecipeResult

DEFAULT_SEEDS = [0]
DATA = ("auto", "cifar10", "synthetic")
DEVICES = ("cpu", "gpu")
PAGE = "report.html"  # in the folder of runs
PICK = "confident"  # which misclassified pictures the report shows

DataName = Annotated[
    str,
    one_name(
        "data set",
        DATA,
        help="auto (cifar10 if there is a copy or a connection, else synthetic), cifar10, synthetic.",
    ),
]
Runs = Annotated[Path, typer.Option(help="The folder for the run folders.", metavar="DIR")]
Device = Annotated[str, one_name("device", DEVICES, help="cpu or gpu.")]
TrainOnly = Annotated[bool, typer.Option("--train-only", help="Neither export nor report.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


@with_field_options
def train(
    *,
    fields: dict[str, Any],
    recipe: RecipeName = None,
    profile: ProfileName = None,
    network: Networks = None,
    augment: Policies = None,
    seed: Seeds = DEFAULT_SEEDS,
    data: DataName = "auto",
    data_dir: DataDir = None,
    runs: Runs = Path("runs"),
    threads: Threads = 2,
    device: Device = "cpu",
    quiet: Quiet = False,
    train_only: TrainOnly = False,
    details: Details = False,
    as_json: Json = False,
) -> None:
    """Train networks, then evaluate, export and report them.

    Each network is trained with and without augmentation. The same command resumes what was interrupted and keeps
    finished runs. KERAS_BACKEND=jax trains on JAX.

    Example: cifar train --recipe tuned --network first --augment none,shift-flip --seed 0-2
    """
    from cifar.data import dataset
    from cifar.system import environment

    backend = environment.requested_backend()
    with interrupt.resumable(runs):
        loaded = dataset.load(data, data_dir, note)
        if loaded.name == "synthetic":
            announce_synthetic()
        chosen = grid(
            recipe,
            profile,
            network,
            augment,
            seed,
            fields=fields,
            dataset=loaded.name,
            threads=threads,
            backend=backend,
        )
        results = _train(chosen, loaded, runs, device, quiet)
        export_error = None
        if train_only and as_json:
            write_json({"runs": [result.facts() for result in results]})
        elif chosen[0].hold_out and not train_only:
            _show_held_out(results, as_json)
        elif not train_only:
            export_error = _export(results, loaded, threads)
            _report(results, loaded, runs, details, as_json)
    _raise_for(results, export_error)


def _train(
    recipes: "Sequence[Recipe]", data: "Dataset", runs: Path, device: str, quiet: bool
) -> "list[RecipeResult]":
    from cifar.report import progress
    from cifar.system import environment
    from cifar.training.callback import SilentCallback
    from cifar.training.grid import train_all

    backend, threads = recipes[0].backend, recipes[0].threads
    with stderr.status(f"Starting {environment.BACKENDS[backend].name}"):
        environment.configure(threads, device, backend)
    note(environment.describe(threads, backend))
    if any(recipe.precision == "bfloat16" for recipe in recipes) and not environment.has_bfloat16_units():
        note("This processor has no units for bfloat16: it is slower than float32 here.")

    @contextmanager
    def make_callback(recipe: "Recipe", number: int) -> Iterator[Any]:
        if quiet:
            yield SilentCallback()
            return
        images = len(data.head(recipe.train_images).x_train)
        with progress.ProgressCallback(stderr, recipe, images, number, len(recipes)) as callback:
            yield callback

    return train_all(recipes, data, runs, make_callback, note)


def _export(results: "Sequence[RecipeResult]", data: "Dataset", threads: int) -> CifarError | None:
    """Export the finished runs that lack a format; return the error of a failed parity check, to report first."""
    from cifar import export
    from cifar.report import progress

    runs = []
    for result in results:
        if result.run and result.run.finished and export.lacks_exports(result.run):
            runs.append(result.run)
    files = len(runs) * len(FLOAT32_FORMATS)
    try:
        with progress.steps(stderr, "Exporting and checking", 2 * files) as advance:
            export.export_missing(runs, data, threads, advance)
    except export.ParityError as error:
        return error
    return None


def _report(results: "Sequence[RecipeResult]", data: "Dataset", runs: Path, details: bool, as_json: bool) -> None:
    """Draw the figures and the page; print the report, or the results as JSON."""
    from cifar.report import figure_files, terminal
    from cifar.report.html import page

    summary = _summarise(results, runs)
    images = {data.sha256: data.x_test}
    drawn = figure_files.draw_all(summary, runs / "figures", PICK, images, console=stderr)
    if summary.results:
        with stderr.status("Writing the page"):
            page.write(summary, images, runs / PAGE)
    if as_json:
        write_json({"runs": [result.facts() for result in results]})
    elif summary.results:
        terminal.show(stdout, summary, runs, PICK, images, drawn, runs / PAGE, details)


def _show_held_out(results: "Sequence[RecipeResult]", as_json: bool) -> None:
    """Print the accuracy on held-out training images: it chooses a recipe, and is no result of it."""
    from cifar.report.table import Table, render

    if as_json:
        write_json({"runs": [result.facts() for result in results]})
        return
    rows = []
    for result in results:
        if result.run and result.run.finished:
            metrics = result.run.metrics
            rows.append((result.run.path.name, f"{metrics.accuracy:.2%}", f"{metrics.loss:.3f}"))
    note = "Neither exported nor reported: train the chosen recipe without --hold-out for that."
    title = f"Scores of {results[0].recipe.hold_out:,} held-out training images"
    stdout.print(render(Table(title, ("run", "accuracy>", "loss>"), rows, [note])))


def _summarise(results: "Sequence[RecipeResult]", runs: Path) -> "Summary":
    """Return the summary of the trained runs, together with other seeds and policies of their networks in `runs`."""
    from cifar.analysis import summary
    from cifar.runs.run import runs_in

    trained = []
    for result in results:
        if result.run:
            trained.append(result.run)
    try:
        return summary.summarise(runs_in(runs)).restrict_to(trained)
    except UsageError as error:
        note(f"The report shows the runs of this command only. {error}")
        return summary.summarise(trained)


def _raise_for(results: "Sequence[RecipeResult]", export_error: CifarError | None) -> None:
    """Raise if an export failed its parity check, a run diverged, or a run was skipped."""
    if export_error:
        raise export_error
    diverged, locked = [], []
    for result in results:
        if result.run is None:
            locked.append(result.recipe.name)
        elif result.run.diverged:
            diverged.append(str(result.run.path))
    if diverged:
        raise CifarError(f"diverged: {', '.join(diverged)}.")
    if locked:
        raise BusyError(f"Locked by another process, skipped: {', '.join(locked)}. All others are done.")


def announce_synthetic() -> None:
    """Say that the data is drawn."""
    from rich.panel import Panel

    text = (
        "SYNTHETIC DATA: ten classes of small drawn pictures, not CIFAR-10.\n"
        "Every result says so. No figure of it says anything about CIFAR-10."
    )
    stderr.print(Panel(text, style="bold yellow", expand=False))
