"""`cifar compare`: verdicts on two results of the benchmarks, or on two revisions measured here in turn."""

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
        str, typer.Argument(help="A result of the benchmarks; with --revisions a revision.", metavar="BASE")
    ],
    head: Annotated[str, typer.Argument(help="The same, to be judged.", metavar="HEAD")],
    limits: Annotated[
        Path | None, typer.Option(help="TOML: the smallest differences that matter.", metavar="FILE")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="What is inconclusive, or gone, is exit code 1 too.")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the table there.", metavar="FILE")] = None,
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

    Every row regressed, improved, is unchanged or is inconclusive.
    Exit code 0: no regression; 1: a regression, with --strict also what cannot be told; 2: not a result of ours.

    Example: cifar compare base.json head.json --markdown verdicts.md
    """
    from cifar.compare import compare_results, results
    from cifar.compare.limits import Limits, read_limits
    from cifar.report import verdicts
    from cifar.system import files

    allowed = read_limits(limits) if limits else Limits()
    if not revisions:
        if expression or repeats:
            raise UsageError("-k and --repeats go with --revisions.")
        found = compare_results(results.read(Path(base)), results.read(Path(head)), allowed)
    else:
        found = _measure(base, head, expression, repeats or 5, allowed)
    if markdown:
        files.write(markdown, verdicts.markdown(found))
    if as_json:
        write_json(found.facts())
    else:
        for part in verdicts.terminal(found):
            stdout.print(part, highlight=False, markup=False)
    _end(found, strict)


def _measure(base: str, head: str, expression: str | None, repeats: int, limits: "Limits") -> "Comparison":
    from cifar.compare import revisions

    return revisions.compare_revisions(base, head, expression, repeats, limits, note)


def _end(found: "Comparison", strict: bool) -> None:
    """Leave with the exit code that the verdicts ask for."""
    regressed, unclear = found.count("regressed"), found.count("inconclusive") + len(found.removed)
    if regressed:
        raise CifarError(f"{regressed} regressed.")
    if strict and unclear:
        raise CifarError(f"{unclear} cannot be told, which --strict does not let pass.")
