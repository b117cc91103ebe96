"""`cifar train`: train, score, export and report."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.options import DataDir, Json
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import BusyError, CifarError, UsageError, one_of
from cifar.recipes import MAX_EPOCHS, MAX_THREADS

if TYPE_CHECKING:
    from cifar.data.dataset import Dataset
    from cifar.recipes import Recipe
    from cifar.training.sweep import RecipeResult

DATA = ("auto", "cifar10", "synthetic")
DEVICES = ("cpu", "gpu")
PATIENCE = 1.5  # seconds after Ctrl-C until native code is not waited for any longer
INTERRUPTED = 130


def train(
    network: Annotated[
        list[str] | None,
        typer.Option(help="first, second, third or module:function; repeat for several. Default: all three."),
    ] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(help="none, shift-flip or another policy; repeat for several. Default: these two."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, max=2**32 - 1, help="Repeat for several. Default: 0.")
    ] = None,
    profile: Annotated[
        str, typer.Option(help="quick: 10,000 images, 5 epochs. reference: the full recipes.")
    ] = "quick",
    epochs: Annotated[int | None, typer.Option(min=1, max=MAX_EPOCHS, help="Instead of the profile's.")] = None,
    data: Annotated[str, typer.Option(help="auto (cifar10, else synthetic), cifar10 or synthetic.")] = "auto",
    data_dir: DataDir = None,
    runs: Annotated[Path, typer.Option(help="The folder for run folders.", metavar="DIR")] = Path("runs"),
    threads: Annotated[
        int, typer.Option(min=1, max=MAX_THREADS, help="Part of the recipe: another count, other weights.")
    ] = 2,
    device: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Json = False,
) -> None:
    """Train networks, plain and augmented; score, export and report them.

    The same command goes on where it was interrupted, and keeps what is finished. KERAS_BACKEND=jax trains on JAX.

    Example: cifar train --network first --augment none --augment shift-flip --seed 0 --seed 1
    """
    from cifar import networks, recipes
    from cifar.data import dataset
    from cifar.system import environment

    names = [networks.check_name(name) for name in network or networks.NETWORKS]
    policies = [one_of("augmentation policy", name, recipes.POLICIES) for name in augment or ("none", "shift-flip")]
    one_of("profile", profile, recipes.PROFILES)
    one_of("data set", data, DATA)
    one_of("device", device, DEVICES)
    backend = environment.requested_backend()
    with _interruptible(runs):
        loaded = dataset.load(data, data_dir, note)
        if loaded.name == "synthetic":
            _announce_synthetic()
        wanted = [
            recipes.recipe(
                name,
                policy,
                seed=number,
                profile=profile,
                epochs=epochs,
                dataset=loaded.name,
                threads=threads,
                backend=backend,
            )
            for number in dict.fromkeys(seed or [0])
            for name in dict.fromkeys(names)
            for policy in dict.fromkeys(policies)
        ]
        outcomes = _train(wanted, loaded, runs, device, quiet)
        refusal = _export(outcomes, loaded, threads)
        _report(outcomes, loaded, runs, as_json, proven=refusal is None)
    _end(outcomes, refusal)


def _train(
    recipes: "Sequence[Recipe]", loaded: "Dataset", runs: Path, device: str, quiet: bool
) -> "Sequence[RecipeResult]":
    from cifar.report import progress
    from cifar.system import environment
    from cifar.training import sweep
    from cifar.training.callback import SilentCallback

    backend = recipes[0].backend
    with stderr.status(f"Starting {environment.BACKENDS[backend].name}"):
        environment.configure(recipes[0].threads, device, backend)
    note(environment.describe(recipes[0].threads, backend))

    @contextmanager
    def make_callback(recipe: "Recipe", number: int) -> Iterator[Any]:
        if quiet:
            yield SilentCallback()
            return
        images = min(recipe.train_images or len(loaded.x_train), len(loaded.x_train))
        with progress.ProgressCallback(stderr, recipe, images, number, len(recipes)) as callback:
            yield callback

    return sweep.train_all(recipes, loaded, runs, make_callback, note)


def _export(outcomes: "Sequence[RecipeResult]", loaded: "Dataset", threads: int) -> CifarError | None:
    """Export what is not exported yet; a file that differs does not keep the report from being made."""
    from cifar import export

    try:
        with stderr.status("Exporting, and checking every file in its own runtime"):
            finished = [outcome.run for outcome in outcomes if outcome.run and outcome.run.finished]
            export.export_missing(finished, loaded, threads)
    except export.ParityError as refusal:
        return refusal
    return None


def _report(outcomes: "Sequence[RecipeResult]", loaded: "Dataset", runs: Path, as_json: bool, proven: bool) -> None:
    """Draw the figures; print the report, or the outcomes as JSON."""
    from cifar.analysis import summary
    from cifar.report import figures, terminal
    from cifar.runs.run import runs_in

    mine = [outcome.run for outcome in outcomes if outcome.run]
    try:
        whole = summary.summarise(runs_in(runs)).restrict_to(
            mine
        )  # other seeds and policies of the same networks count
    except UsageError as error:
        note(f"The report is of this command's runs alone. {error}")
        whole = summary.summarise(mine)
    images = {loaded.sha256: loaded.x_test}
    with stderr.status("Drawing"):
        drawn = figures.draw_all(whole, runs / "figures", "confident", images)
    if as_json:
        write_json({"runs": [outcome.facts() for outcome in outcomes]})
    elif whole.results:
        terminal.show(stdout, whole, "confident", images)
        note(f"{len(drawn)} figures: {runs / 'figures'} and in each run. `cifar report {runs}` shows this again.")
        if proven:
            exports = whole.results[0].run.path / "exports"
            note(f"Models in three formats, proven equal: {exports} and in each other run.")


def _end(outcomes: "Sequence[RecipeResult]", refusal: CifarError | None) -> None:
    """End with an error if an export was refused, or a run diverged or was passed over."""
    if refusal:
        raise refusal
    diverged = [str(outcome.run.path) for outcome in outcomes if outcome.run and outcome.run.diverged]
    if diverged:
        raise CifarError(f"diverged: {', '.join(diverged)}.")
    busy = [outcome.recipe.name for outcome in outcomes if outcome.run is None]
    if busy:
        raise BusyError(f"Held by another process and passed over: {', '.join(busy)}. All others are done.")


def _announce_synthetic() -> None:
    from rich.panel import Panel

    text = (
        "SYNTHETIC DATA: ten classes of small drawn pictures, not CIFAR-10.\n"
        "Every result says so. No figure of it says anything about CIFAR-10."
    )
    stderr.print(Panel(text, style="bold yellow", expand=False))


@contextmanager
def _interruptible(runs: Path) -> Iterator[None]:
    """Within two seconds of Ctrl-C, say how to go on and end, even while native code holds the main thread."""
    farewell = f"\nInterrupted. Finished epochs are kept in {runs}; the same command goes on from there."
    receive, send = socket.socketpair()
    send.setblocking(False)
    said = threading.Event()

    def end_hard() -> None:
        with receive:
            if receive.recv(1):
                time.sleep(PATIENCE)
                if not said.is_set():
                    os.write(2, f"{farewell}\n".encode())
                os._exit(INTERRUPTED)

    earlier = signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=end_hard, daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        said.set()
        stderr.print(farewell, highlight=False, soft_wrap=True)
        os._exit(INTERRUPTED)  # the frameworks' own farewell takes seconds
    finally:
        signal.set_wakeup_fd(earlier)
        send.close()
