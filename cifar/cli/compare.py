"""`cifar compare`: verdicts on two benchmark results, or on two revisions measured here in turn."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar.cli.options import Json
from cifar.cli.output import note, stdout, write_json
from cifar.errors import CifarError, UsageError

if TYPE_CHECKING:
    from cifar.compare.limits import Limits
    from cifar.compare.verdict import Comparison


def compare(
    base: Annotated[
        str,
        typer.Argument(
            help="A benchmark result, or a folder of several sessions; with --revisions a revision.", metavar="BASE"
        ),
    ],
    head: Annotated[str, typer.Argument(help="The result or revision to compare with it.", metavar="HEAD")],
    limits: Annotated[
        Path | None, typer.Option(help="TOML: the smallest differences that matter.", metavar="FILE")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 for inconclusive rows too.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Rows of BASE may be missing in HEAD.")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables to this file.", metavar="FILE")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the tables as one HTML file.", metavar="FILE")] = None,
    revisions: Annotated[
        bool, typer.Option("--revisions", help="Measure two revisions here, in turn, and compare them.")
    ] = False,
    expression: Annotated[
        str | None, typer.Option("-k", help="With --revisions: which rows, as pytest's -k.", metavar="EXPR")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=2, help="With --revisions: sessions of each (default 5).", metavar="N")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two benchmark results, or two revisions measured here.

    Each quantity of each row has regressed, improved, is unchanged or is inconclusive.
    Exit code 0: no regression; 1: a regression or a missing row, with --strict also an inconclusive one; 2: not a
    benchmark result.

    Example: cifar compare base.json head.json --markdown comparison.md
    """
    from cifar.compare import compare_results, sessions
    from cifar.compare.limits import Limits, read_limits
    from cifar.report import comparison_tables
    from cifar.system import files

    row_limits = read_limits(limits) if limits else Limits()
    if revisions:
        comparison = _compare_revisions(base, head, expression, repeats or 5, row_limits)
    elif expression or repeats:
        raise UsageError("-k and --repeats go with --revisions.")
    else:
        comparison = compare_results(sessions.read(Path(base)), sessions.read(Path(head)), row_limits)
    if markdown:
        files.write(markdown, comparison_tables.markdown(comparison))
    if html:
        from cifar.report.html import page

        tables, sentences = comparison_tables.tables(comparison), comparison_tables.notes(comparison)
        page.write_tables(html, comparison_tables.title(comparison), tables, sentences)
    if as_json:
        write_json(comparison.facts())
    else:
        for part in comparison_tables.terminal(comparison):
            stdout.print(part, highlight=False, markup=False)
    _raise_if_worse(comparison, strict, allow_missing)


def _compare_revisions(base: str, head: str, expression: str | None, repeats: int, limits: "Limits") -> "Comparison":
    from cifar.compare import revisions

    return revisions.compare_revisions(base, head, expression, repeats, limits, note)


def _raise_if_worse(comparison: "Comparison", strict: bool, allow_missing: bool) -> None:
    """Raise CifarError if something regressed or, unless allowed, is missing; if strict, also if inconclusive."""
    if not comparison.verdicts:
        raise CifarError("Nothing was compared: the two results have no row in common.")
    n_regressed = comparison.count("regressed")
    if n_regressed:
        raise CifarError(f"{n_regressed} regressed.")
    n_missing = len(comparison.removed)
    if n_missing and not allow_missing:
        raise CifarError(f"{n_missing} missing in the head; --allow-missing accepts that.")
    n_unclear = comparison.count("inconclusive")
    if strict and n_unclear:
        raise CifarError(f"{n_unclear} inconclusive, which --strict does not allow.")
