"""The page: one file that needs neither server nor network, under a policy that allows its own script alone."""

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

from cifar.analysis.summary import Summary
from cifar.report import overview, plots
from cifar.report.captions import data_captions
from cifar.report.html import content, trade_off
from cifar.report.html.content import Images, TestSet
from cifar.report.html.vector import inline_svg
from cifar.report.table import heading
from cifar.system import files

FOLDER = Path(__file__).parent


def write(summary: Summary, images: Images, path: Path) -> None:
    """Write the report of runs as one HTML file.

    Args:
        summary: of the runs, at least one of them finished.
        images: test images by data digest; of runs on other data there are indices in place of pictures.
        path: the file.

    Raises:
        UsageError: what an exported file says of the test images is damaged.
        StorageError: the file cannot be written.
    """
    files.write(path, render(summary, images))


def render(summary: Summary, images: Images) -> str:
    """Return the page; arguments and errors as of `write`. All texts of runs are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    test_sets = content.test_sets(summary, images)
    style, script = ((FOLDER / name).read_text() for name in ("page.css", "page.js"))
    tables = [replace(overview.results(summary), title="Results"), overview.claims(summary.groups)]
    charts: list[tuple[str, Markup]] = []
    for name, (cost, points) in content.trade_offs(summary).items():
        figure, titles = trade_off.draw(points, cost)
        charts.append((name, Markup(inline_svg(figure, f"chart{len(charts)}", name, titles))))
    curves = []
    for number, group in enumerate(summary.groups):
        description = f"Loss and accuracy over epochs: {group.label}"
        curves.append((group.label, Markup(inline_svg(plots.curves(group.results), f"curves{number}", description))))
    return environment.get_template("page.html.jinja").render(
        title="cifar-bench report",
        policy=_content_security_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        json=Markup(_script_json(test_sets)),
        captions=" ".join(data_captions(summary.groups)),
        heading=heading,
        tables=[table for table in tables if table.rows],
        sentences=overview.sentences_without_verdicts(summary.groups),
        runs=content.runs(summary),
        files=content.exported_files(summary),
        charts=charts,
        curves=curves,
        data=test_sets,
        picture_notes=list(map(_picture_note, test_sets)),
    )


def _content_security_policy(style: str, script: str) -> str:
    """Allow this style, this script and pictures within the page, and nothing else."""
    return (
        f"default-src 'none'; style-src {_source_hash(style)}; script-src {_source_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _script_json(test_sets: list[TestSet]) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(list(map(content.as_json, test_sets))).replace("<", "\\u003c")


def _picture_note(test_set: TestSet) -> str:
    if test_set.pictures is None:
        return f"{test_set.name} {test_set.sha256[:12]}: the data are not at hand; images are named by their indices."
    return (
        f"{test_set.name} {test_set.sha256[:12]}: {len(test_set.pictures.indices):,} pictures, compressed with loss, "
        f"of the {test_set.pictures.wanted:,} images that any run or file gets wrong; the others by their indices."
    )
