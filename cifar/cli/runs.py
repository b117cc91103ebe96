"""`cifar runs`: the runs in a folder and how far each has come."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.options import Json
from cifar.cli.output import stdout, write_json

if TYPE_CHECKING:
    from cifar.runs.run import Run

RunsArgument = Annotated[Path, typer.Argument(help="A folder of runs, or one run.", metavar="RUNS")]


def runs(folder: RunsArgument = Path("runs"), as_json: Json = False) -> None:
    """List the runs in a folder, finished or not.

    Example: cifar runs runs
    """
    from cifar.report.table import Table, render
    from cifar.runs.run import runs_in

    facts = list(map(_facts, runs_in(folder)))
    if as_json:
        write_json({"runs": facts})
        return
    columns = ("run", "status", "data", "epochs>", "test>")
    stdout.print(render(Table(str(folder), columns, list(map(_row, facts)))))


def _facts(run: "Run") -> dict[str, Any]:
    accuracy = None
    if run.finished:
        accuracy = run.metrics.accuracy
    return {
        "path": str(run.path),
        "status": run.status,
        "network": run.recipe.network,
        "augment": run.recipe.policy.name,
        "seed": run.recipe.seed,
        "dataset": run.recipe.dataset,
        "epochs_done": len(run.history),
        "epochs": run.recipe.epochs,
        "accuracy": accuracy,
    }


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    epochs = f"{facts['epochs_done']}/{facts['epochs']}"
    accuracy = "-"
    if facts["accuracy"] is not None:
        accuracy = f"{facts['accuracy']:.1%}"
    return Path(facts["path"]).name, facts["status"], facts["dataset"], epochs, accuracy
