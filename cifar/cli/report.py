"""`cifar report`: accuracies, augmentation gain, figures and claims of finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from cifar.cli.options import DataDir, Json, Pick
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import NotFoundError, UsageError

HISTORY = Path("bench", "history")  # of this project: a result per release


def report(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A folder of runs, or one run; with --trend of results, one per release.", metavar="RUNS"
        ),
    ] = None,
    pick: Pick = "confident",
    trend: Annotated[
        bool, typer.Option("--trend", help="Accuracy, size, latency and throughput over releases instead.")
    ] = False,
    data_dir: DataDir = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables there, too, as Markdown.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show accuracies, augmentation gains and claims of finished runs.

    Figures are drawn, and misclassified pictures are shown.

    Example: cifar report runs --pick surprising
    """
    if trend and markdown:
        raise UsageError("--markdown is of a report of runs; --trend writes none.")
    if trend:
        _report_trend(folder or HISTORY, as_json)
    else:
        _report_runs(folder or Path("runs"), pick, data_dir, markdown, as_json)


def _report_trend(folder: Path, as_json: bool) -> None:
    from cifar.report import trend

    found = trend.read(folder)
    picture = folder / "figures" / "trend.png"
    with stderr.status("Drawing"):
        trend.draw(found, picture)
    if as_json:
        write_json(
            {
                "format_version": 1,
                "releases": found.releases,
                "machines": found.machines,
                "series": found.series,
                "figures": [str(picture)],
            }
        )
        return
    for made in trend.tables(found):
        stdout.print(made, "")
    for text in trend.notes(found):
        stdout.print(text, highlight=False, markup=False)
    note(f"Drawn: {picture}")


def _report_runs(folder: Path, pick: str, data_dir: Path | None, markdown: Path | None, as_json: bool) -> None:
    from cifar.analysis import summary
    from cifar.data import dataset
    from cifar.report import figures, table, tables, terminal
    from cifar.runs.run import runs_in
    from cifar.system import files

    found = runs_in(folder)
    whole = summary.summarise(found)
    if not whole.results:
        raise UsageError(f"{folder}: none of its {len(found)} runs is finished.")
    images = {}
    for name in {result.run.recipe.dataset for result in whole.results}:
        try:
            data = dataset.by_name(name, data_dir, note, download=False)
        except NotFoundError as error:
            note(f"No pictures, only their indices: {error}")
        else:
            images[data.sha256] = data.x_test
    for stranger in [it.run.path for it in whole.results if images and it.pictures(images) is None]:
        note(f"No pictures of {stranger}, only their indices: it was trained on other data than is here.")
    alone = found[0].path == folder
    with stderr.status("Drawing"):
        drawn = figures.draw_all(whole, folder / "figures", pick, images, networks=not alone)
    if markdown:
        files.write(markdown, table.markdown(tables.sections(whole, pick)))
    if as_json:
        write_json({**whole.facts(pick), "figures": [str(path) for path in drawn]})
        return
    terminal.show(stdout, whole, pick, images)
    note(f"{len(drawn)} figures, the first: {drawn[0]}")
