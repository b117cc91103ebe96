"""Progress: a live bar with the time left in a terminal; elsewhere a line per epoch of a training, else nothing."""

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cifar.recipes import Recipe
from cifar.runs.schemas import Epoch, Timing


class Advance(Protocol):
    """Moves a progress bar by a number of steps."""

    def __call__(self, steps: int = 1, total: int | None = None) -> None:
        """Move the bar; `total` is the number of all steps, where it becomes known only now."""
        ...


def no_progress(steps: int = 1, total: int | None = None) -> None:
    """An Advance without a bar."""


@contextmanager
def steps(console: Console, description: str, total: int | None) -> Iterator[Advance]:
    """Show a bar with the time left while the block runs; nothing unless the console is a terminal.

    Args:
        console: on stderr.
        description: what is done, e.g. `Drawing figures`.
        total: number of steps; None if it is not known beforehand.

    Yields:
        A function that the block calls after each step, or with a number of steps.
    """
    if not console.is_terminal:
        yield no_progress
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)

        def advance(steps: int = 1, total: int | None = None) -> None:
            bar.update(task, advance=steps, total=total)

        yield advance


class ProgressCallback:
    """A Callback of one run: a bar for the epoch under way where there is a terminal, and a line for every epoch.

    Args:
        console: on stderr.
        recipe: of the run.
        images: training images per epoch.
        number, total: this is run `number` of `total`.
    """

    def __init__(self, console: Console, recipe: Recipe, images: int, number: int, total: int) -> None:
        self._console, self._recipe, self._images = console, recipe, images
        self._title = f"[{number}/{total}] {recipe.network} {recipe.policy.name} seed {recipe.seed}"
        bar = BarColumn(bar_width=16)
        self._bar = Progress(
            TextColumn("{task.description}"),
            bar,
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=images, figures="starting", visible=console.is_terminal)
        self._started, self._done = time.perf_counter(), 0

    def __enter__(self) -> "ProgressCallback":
        if self._console.is_terminal:
            self._bar.start()
        self._console.print(self._title, style="bold", highlight=False, markup=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """Move the bar."""
        if images <= self._recipe.batch_size:  # the rate counts from the first step's end: it compiles
            self._started, self._done = time.perf_counter(), images
        elapsed = time.perf_counter() - self._started
        rate = (images - self._done) / elapsed if images > self._done else 0.0
        figures = f"loss {loss:.3f}  accuracy {accuracy:6.1%}"
        if rate:
            left = self._images - images + self._images * (self._recipe.epochs - epoch)
            figures += f"  {rate:,.0f} images/s  {_clock(left / rate)} left"
        self._bar.update(
            self._task, completed=images, description=f"epoch {epoch}/{self._recipe.epochs}", figures=figures
        )

    def epoch(self, line: Epoch, timing: Timing) -> None:
        """Print the epoch's line."""
        left = (self._recipe.epochs - line.epoch) * (timing.train_seconds + timing.score_seconds)
        self._console.print(
            f"  epoch {line.epoch:2d}/{self._recipe.epochs}  loss {line.loss:.3f}  accuracy {line.accuracy:6.1%}"
            f"  test {line.test_accuracy:6.1%}  {timing.images_per_second:,.0f} images/s  {_clock(left)} left",
            highlight=False,
            soft_wrap=True,
        )


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
