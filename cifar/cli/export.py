"""`cifar export`: write a run's model in other formats."""

from pathlib import Path
from typing import Annotated

import typer

from cifar.cli.evaluate import data_of
from cifar.cli.output import DataDir, Json, RunArgument, note, stderr, stdout, write_json
from cifar.errors import one_of


def export(
    path: RunArgument,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="saved-model, tflite, onnx; repeat for several. Default: all."),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Default: RUN/exports.", metavar="DIR", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Export a run's model; each file is proven equal in its own runtime before it is moved into place.

    Example: cifar export runs/first-none-s0 --format onnx --to models
    """
    from cifar import environment, exporting
    from cifar.formats import FORMATS
    from cifar.report import terminal
    from cifar.run import Run

    names = [one_of("format", name, FORMATS) for name in dict.fromkeys(formats or FORMATS)]
    run = Run(path)
    run.metrics  # noqa: B018 - fails here if the run is not finished
    data = data_of(run, data_dir)
    with stderr.status("Exporting, and checking every file in its own runtime"):
        environment.configure(run.recipe.threads)
        lines = exporting.export([run], data, names, to, run.recipe.threads)
    if as_json:
        write_json({"exports": [line.model_dump() for line in lines]})
        return
    rows = [
        (
            line.file,
            f"{line.bytes:,}",
            f"{line.agreement:.2%}",
            f"{line.largest_difference:.0e}",
            line.runtime_version,
        )
        for line in lines
    ]
    columns = ("file", "bytes>", "agreement>", "largest difference>", "runtime>")
    caption = f"Against the Keras model on {data.x_test.shape[0]:,} test images, each in its own runtime."
    stdout.print(terminal.table("Exported", columns, rows, caption))
    note(f"In {to or run.path / 'exports'}, with manifest.json; the contract is in exports/README.md.")
