"""`cifar report`: accuracies, augmentation gain, figures and claims of finished runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar.cli.options import DataDir, Details, Json, Pick
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cifar.analysis.summary import Summary

RUNS = Path("runs")
HISTORY = Path("bench", "history")  # a benchmark result per release of this project
TREND_FORMAT_VERSION = 1


def report(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A folder of runs, or one run; with --trend, a folder of benchmark results, one per release.",
            metavar="RUNS",
        ),
    ] = None,
    details: Details = False,
    pick: Pick = "confident",
    trend: Annotated[
        bool, typer.Option("--trend", help="Show accuracy, size, latency and throughput over releases instead.")
    ] = False,
    data_dir: DataDir = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write all tables to this file, as Markdown.", metavar="FILE")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write one HTML file: sortable tables, misclassified images, images that change their class.",
            metavar="FILE",
        ),
    ] = None,
    benchmark: Annotated[
        Path | None,
        typer.Option(help="With --html: a benchmark result whose rows the page shows, too.", metavar="FILE.json"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show accuracies, augmentation gains and claims of finished runs.

    Figures are drawn into the folder.

    Example: cifar report runs --details --pick surprising
    """
    if trend and (markdown or benchmark or details):
        raise UsageError("--markdown, --benchmark and --details go with a report of runs, not with --trend.")
    if benchmark and not html:
        raise UsageError("--benchmark goes with --html FILE, the page that shows it.")
    if trend:
        _report_trend(folder or HISTORY, html, as_json)
    else:
        _report_runs(folder or RUNS, pick, data_dir, markdown, html, benchmark, details, as_json)


def _report_trend(folder: Path, html: Path | None, as_json: bool) -> None:
    from cifar.report import trend
    from cifar.report.html import page
    from cifar.report.table import render

    releases = trend.read(folder)
    picture = folder / "figures" / "trend.png"
    with stderr.status("Drawing the trend"):
        trend.draw(releases, picture)
    if html:
        captioned = [("Accuracy, size, latency and throughput over releases", trend.figure(releases))]
        page.write_tables(html, "cifar-bench over releases", trend.tables(releases), trend.notes(releases), captioned)
    if as_json:
        facts = {
            "format_version": TREND_FORMAT_VERSION,
            "releases": releases.releases,
            "machines": releases.machines,
            "series": releases.series,
            "figures": [str(picture)],
        }
        write_json(facts)
        return
    for table in trend.tables(releases):
        stdout.print(render(table), "")
    for line in trend.notes(releases):
        stdout.print(line, highlight=False)
    note(f"Figure: {picture}")
    if html:
        note(f"Page: {html}")


def _report_runs(
    folder: Path,
    pick: str,
    data_dir: Path | None,
    markdown: Path | None,
    html: Path | None,
    benchmark: Path | None,
    details: bool,
    as_json: bool,
) -> None:
    from cifar.analysis.summary import summarise
    from cifar.compare import benchmark_results
    from cifar.report import detail_tables, figure_files, terminal
    from cifar.report import table as table_module
    from cifar.runs.run import runs_in
    from cifar.system import files

    benchmark_result = benchmark_results.read(benchmark) if benchmark else None
    runs = runs_in(folder)
    with stderr.status("Reading runs"):
        summary = summarise(runs)
    if not summary.results:
        raise UsageError(f"{folder}: none of its {len(runs)} runs is finished.")
    images = _test_images(summary, data_dir)
    is_one_run = runs[0].path == folder
    drawn = figure_files.draw_all(summary, folder / "figures", pick, images, networks=not is_one_run, console=stderr)
    if markdown:
        files.write(markdown, table_module.markdown(detail_tables.markdown_tables(summary, pick)))
    if html:
        from cifar.report.html import page

        with stderr.status("Writing the page"):
            page.write(summary, images, html, benchmark_result)
    if as_json:
        write_json({**summary.facts(pick), "figures": list(map(str, drawn))})
        return
    terminal.show(stdout, summary, folder, pick, images, drawn, html, details)


def _test_images(summary: "Summary", data_dir: Path | None) -> "dict[str, NDArray[np.uint8]]":
    """Return the test images of the runs, by data digest; a note says of which runs they are missing, and why."""
    from cifar.data import dataset

    images = {}
    for name in {result.run.recipe.dataset for result in summary.results}:
        try:
            data = dataset.by_name(name, data_dir, note, download=False)
        except NotFoundError as error:
            note(f"No pictures, only their indices: {error}")
        else:
            images[data.sha256] = data.x_test
    for result in summary.results:
        if images and result.test_images(images) is None:
            note(f"No pictures of {result.run.path}, only their indices: it was trained on data that are not here.")
    return images
