"""Pages of HTML that need neither server nor network, under a policy that allows their own script alone."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar.analysis.summary import Summary
from cifar.compare.benchmark_results import BenchmarkResult
from cifar.report import diagnosis_figure, overview, plots, runtime_tables
from cifar.report.captions import data_captions, environment_captions
from cifar.report.html import benchmark_rows, content, trade_off
from cifar.report.html.content import Images, TestSet
from cifar.report.html.vector import inline_svg
from cifar.report.table import Table
from cifar.system import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
Drawings = list[tuple[str, str]]
"""Captions, each with its figure as SVG."""


def write(summary: Summary, images: Images, path: Path, benchmark: BenchmarkResult | None = None) -> None:
    """Write the report of runs as one HTML file.

    Args:
        summary: of the runs, at least one of them finished.
        images: test images by data digest; of runs on other data there are indices in place of pictures.
        path: the file.
        benchmark: whose rows are shown, too.

    Raises:
        UsageError: what an exported file says of the test images is damaged.
        StorageError: the file cannot be written.
    """
    files.write(path, render(summary, images, benchmark))


def write_tables(
    path: Path,
    title: str,
    tables: Sequence[Table],
    notes: Sequence[str],
    figures: Sequence[tuple[str, "Figure"]] = (),
) -> None:
    """Write tables and figures as one HTML file without any script.

    Args:
        path: the file.
        title: its heading.
        tables: the tables.
        notes: sentences below them.
        figures: captions, each with its figure.

    Raises:
        StorageError: the file cannot be written.
    """
    text = _render(
        "tables.html.jinja", script="", title=title, tables=tables, notes=notes, charts=_drawings("chart", figures)
    )
    files.write(path, text)


def render(summary: Summary, images: Images, benchmark: BenchmarkResult | None = None) -> str:
    """Return the page of runs; arguments and errors as of `write`. All texts of runs are escaped."""
    test_sets = content.test_sets(summary, images)
    tables = [replace(overview.results(summary), title="Results"), overview.claims(summary.groups)]
    tables.append(runtime_tables.kept(summary))
    trade_offs = content.trade_offs(summary)
    benchmark_grid = None
    if benchmark is not None:
        benchmark_grid = benchmark_rows.grid(benchmark)
        trade_offs |= benchmark_rows.trade_offs(benchmark)
    charts: Drawings = []
    for name, (cost, points) in trade_offs.items():
        figure, titles = trade_off.draw(points, cost)
        charts.append((name, inline_svg(figure, f"chart{len(charts)}", name, titles)))
    curves, calibration = [], []
    for group in summary.groups:
        curves.append((group.label, plots.curves(group.results)))
        calibration.append((group.label, plots.calibration(group.first_seed_results())))
    diagnoses, changed = content.diagnoses(summary)
    quantization = [(name, diagnosis_figure.draw(diagnosis)) for name, diagnosis in diagnoses.items()]
    return _render(
        "report.html.jinja",
        script=(FOLDER / "page.js").read_text(),
        title="cifar-bench report",
        json=_script_json(test_sets),
        captions=" ".join([*data_captions(summary.groups), *environment_captions(summary.results)]),
        tables=[table for table in tables if table.rows],
        sentences=[*overview.sentences_without_verdicts(summary.groups), *changed],
        runs=content.runs(summary),
        files=content.exported_files(summary),
        benchmark=benchmark_grid,
        charts=_markup(charts),
        curves=_drawings("curves", curves),
        calibration=_drawings("calibration", calibration),
        quantization=_drawings("quantization", quantization),
        data=test_sets,
        data_notes=list(map(_data_note, test_sets)),
    )


def _render(template: str, script: str, json: str = "", **context: Any) -> str:
    """Return a page from its template. The script, the JSON and the figures are ours, and not escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (FOLDER / "page.css").read_text()
    return environment.get_template(template).render(
        policy=_content_security_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        json=Markup(json),
        **context,
    )


def _drawings(name: str, figures: Sequence[tuple[str, "Figure"]]) -> Drawings:
    """Return captions, each with its figure as SVG, whose identifiers begin with a name and the figure's number."""
    drawings = []
    for number, (caption, figure) in enumerate(figures):
        drawings.append((caption, inline_svg(figure, f"{name}{number}", caption)))
    return _markup(drawings)


def _markup(drawings: Drawings) -> Drawings:
    """Mark the figures as HTML that is not escaped."""
    from markupsafe import Markup

    return [(caption, Markup(svg)) for caption, svg in drawings]


def _content_security_policy(style: str, script: str) -> str:
    """Allow this style, this script and pictures within the page, and nothing else."""
    allowed_script = _source_hash(script) if script else "'none'"
    return (
        f"default-src 'none'; style-src {_source_hash(style)}; script-src {allowed_script}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _script_json(test_sets: list[TestSet]) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(list(map(content.as_json, test_sets))).replace("<", "\\u003c")


def _data_note(test_set: TestSet) -> str:
    """Return which pictures and which predictions of a test set are in the page."""
    note = f"{test_set.name} {test_set.sha256[:12]}: the data are not at hand; images are named by their indices."
    if test_set.pictures is not None:
        note = (
            f"{test_set.name} {test_set.sha256[:12]}: {len(test_set.pictures.indices):,} pictures, compressed with "
            f"loss, of the {test_set.pictures.wanted:,} images that any run or file gets wrong; the others by their "
            "indices."
        )
    if test_set.left_out:
        note += (
            f" The galleries have the first {len(test_set.predictions)} runs and files, and {test_set.left_out} not: "
            "report fewer runs to see them."
        )
    return note
