"""`cifar export`: write a run's model in other formats."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar.cli.options import DataDir, Formats, Json, RunArgument
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.formats import FLOAT32_FORMATS, INPUT, OUTPUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group

    from cifar.formats.manifest import ManifestEntry
    from cifar.runs.run import Run

DEFAULT_FORMATS = list(FLOAT32_FORMATS)


def export(
    path: RunArgument,
    formats: Formats = DEFAULT_FORMATS,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Points of test accuracy that a file of lower precision may lose. Default: float16 0.2, int8 0.5.",
            min=0,
            show_default=False,
        ),
    ] = None,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(
            "--keep-float",
            help="A layer that onnx-int8 leaves in float32, such as the last; repeat it for several.",
            metavar="LAYER",
            show_default=False,
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Default: RUN/exports.", metavar="DIR", show_default=False)] = None,
    card: Annotated[bool, typer.Option("--card", help="Write a model card, NAME.md, beside the files.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Export a run's model, each file checked in its own runtime.

    The check runs on the whole test set, before the file is moved into place.
    A float32 file must be numerically equivalent to the Keras model; a float16 or int8 file may lose little accuracy.

    Example: cifar export runs/first-none-s0 --format onnx,onnx-int8 --to models
    """
    from cifar import export
    from cifar.report import progress
    from cifar.runs.loading import load_data
    from cifar.runs.run import Run
    from cifar.system import environment

    run = Run(path)
    run.require_finished()
    data = load_data(run, data_dir, note)
    folder = to or run.path / "exports"
    steps = 2 * len(formats)  # each file is written, then checked
    with progress.steps(stderr, "Exporting and checking", steps) as advance:
        environment.configure(run.recipe.threads)
        entries = export.export_runs(
            [run], data, formats, folder, run.recipe.threads, max_drop, keep_float or [], advance
        )
    if card:
        _write_card(run, folder)
    if as_json:
        write_json({"exports": [entry.model_dump() for entry in entries]})
        return
    stdout.print(_table(run, entries))
    note(
        f"In {folder}, with manifest.json. Every file takes {INPUT}, uint8 (N, 32, 32, 3), and returns {OUTPUT}, "
        f"float32 (N, 10). To try one: cifar predict {folder / entries[0].file} PICTURE"
    )


def _write_card(run: "Run", folder: Path) -> None:
    """Write the model card of all of a run's files in a folder."""
    from cifar.analysis.finished_run import FinishedRun
    from cifar.formats import manifest
    from cifar.report import card
    from cifar.system import files

    entries = manifest.of_weights(folder, run.metrics.weights_sha256)
    files.write(folder / f"{run.path.name}.md", card.markdown(FinishedRun(run), entries))


def _table(run: "Run", entries: "Sequence[ManifestEntry]") -> "Group":
    from cifar.report.table import Table, render

    rows = []
    for entry in entries:
        rows.append(
            (
                entry.format,
                f"{entry.bytes:,}",
                f"{entry.accuracy:.2%}",
                f"{entry.agreement:.2%}",
                f"{entry.max_difference:.0e}",
                f"{entry.runtime} {entry.runtime_version}",
            )
        )
    columns = ("format", "bytes>", "test>", "agreement>", "difference>", "runtime")
    caption = (
        f"On {entries[0].n_test:,} test images, each file in its own runtime. agreement: the same class as the "
        f"Keras model ({run.metrics.accuracy:.2%}). difference: the largest of any probability."
    )
    return render(Table(f"Exported: {run.path.name}", columns, rows, [caption]))
