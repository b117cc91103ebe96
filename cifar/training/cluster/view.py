"""The progress of a grid: a table in a terminal, else a line for every epoch and every run that ends."""

import datetime
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cifar.training.cluster.task import Outcome, Progress, Task

MAX_ROWS = 20  # of runs under way, in a terminal


class View:
    """Shows a grid while it is trained; a context manager.

    Args:
        console: on stderr.
        tasks: the grid.
    """

    def __init__(self, console: Console, tasks: Sequence[Task]) -> None:
        self._console = console
        self._tasks = {task.name: task for task in tasks}
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._shown: set[tuple[str, int]] = set()
        self._ended: set[str] = set()
        self._started: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> "View":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, progress: Mapping[str, Progress], outcomes: Mapping[str, Outcome]) -> None:
        """Show how far the runs are, and how those that are done ended."""
        under_way = {name: state for name, state in progress.items() if name not in outcomes}
        for name, outcome in outcomes.items():
            if name not in self._ended:
                self._ended.add(name)
                end = "trained" if outcome.code == 0 else f"FAILED: {outcome.message}"
                self._line(f"[{len(self._ended)}/{len(self._tasks)}] {name}  {outcome.node}  {end}")
        if self._console.is_terminal:
            self._live.update(self._table(under_way, len(outcomes)), refresh=True)
            return
        for name, state in under_way.items():
            if state.epoch and (name, state.epoch) not in self._shown:
                self._shown.add((name, state.epoch))
                self._line("  ".join((name, *self._cells(name, state))))

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _table(self, under_way: Mapping[str, Progress], n_done: int) -> Table:
        waiting = len(self._tasks) - n_done - len(under_way)
        title = f"{n_done} of {len(self._tasks)} runs trained, {len(under_way)} under way, {waiting} waiting"
        table = Table("run", "node", "epoch", "images/s", "left", title=title, title_justify="left", box=None)
        for name, state in list(under_way.items())[:MAX_ROWS]:
            table.add_row(name, *self._cells(name, state))
        return table

    def _cells(self, name: str, state: Progress) -> tuple[str, str, str, str]:
        """Node, epoch, images/s and the time left of a run."""
        now, epochs = time.monotonic(), self._tasks[name].recipe.epochs
        since, first = self._started.setdefault(name, (now, state.epoch))
        left = "-"
        if state.epoch > first:
            seconds = (now - since) / (state.epoch - first) * (epochs - state.epoch)
            left = str(datetime.timedelta(seconds=round(seconds)))
        rate = f"{state.images_per_second:,.0f}" if state.images_per_second else "-"
        return state.node, f"{state.epoch}/{epochs}", rate, left
