"""A comparison of benchmark results for people: tables and notes, in the terminal and in Markdown."""

from collections.abc import Sequence

from rich.console import Group

from cifar.compare.benchmark_results import split_row_name
from cifar.compare.verdict import OUTCOMES, Comparison, Verdict
from cifar.metrics.statistics import Noise
from cifar.report import numbers
from cifar.report.table import Table, markdown_table, render

TIME_COLUMNS = ("row", "base>", "head>", "change>", "95 %>", "verdict")
QUALITY_COLUMNS = ("row", "of", "base>", "head>", "verdict")
MIN_DRIFT = 0.001  # a smaller change of the matrix peak is not mentioned


def title(comparison: Comparison) -> str:
    """Return the number of verdicts by outcome, in a line."""
    counts = []
    for outcome in OUTCOMES:
        if comparison.count(outcome):
            counts.append(f"{comparison.count(outcome)} {outcome}")
    return f"Verdicts: {', '.join(counts) or 'nothing to compare'}"


def shown(comparison: Comparison) -> list[Verdict]:
    """Return the verdicts that have a line: all but times that cannot be compared and unchanged quality."""
    verdicts = []
    for verdict in comparison.verdicts:
        hidden = "not comparable" if verdict.quantity == "time" else "unchanged"
        if verdict.outcome != hidden:
            verdicts.append(verdict)
    return verdicts


def tables(comparison: Comparison) -> list[Table]:
    """Return a table of times for each test, and one of changed quality."""
    times: dict[str, list[tuple[str, ...]]] = {}
    quality = []
    for verdict in shown(comparison):
        if verdict.quantity == "time":
            test, _ = split_row_name(verdict.row)
            times.setdefault(test, []).append(_time_cells(verdict))
        else:
            quality.append(_quality_cells(verdict))
    shown_tables = []
    for test, rows in times.items():
        shown_tables.append(Table(f"Times: {test}", TIME_COLUMNS, rows))
    if quality:
        shown_tables.append(Table("Quality that changed", QUALITY_COLUMNS, quality))
    return shown_tables


def _time_cells(verdict: Verdict) -> tuple[str, ...]:
    assert verdict.change is not None
    assert verdict.interval is not None
    low, high = verdict.interval
    _, case = split_row_name(verdict.row)
    return (
        case,
        _value(verdict.quantity, verdict.base),
        _value(verdict.quantity, verdict.head),
        f"x {verdict.change:.2f}",
        f"{low:.2f} to {high:.2f}",
        verdict.outcome,
    )


def _quality_cells(verdict: Verdict) -> tuple[str, ...]:
    return (
        _short_name(verdict.row),
        verdict.quantity,
        _value(verdict.quantity, verdict.base),
        _value(verdict.quantity, verdict.head),
        verdict.outcome,
    )


def _value(quantity: str, value: float | None) -> str:
    if value is None:
        return numbers.NONE
    if quantity in ("accuracy", "agreement"):
        return f"{value:.2%}"
    if quantity != "time":
        return f"{value:,.0f}"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{1000 * value:.3g} ms"


def notes(comparison: Comparison) -> list[str]:
    """Return the sentences below the tables."""
    sentences = _unchanged_sentences(comparison.verdicts)
    if comparison.machine_mismatch:
        sentences.append(f"Times are not comparable: {comparison.machine_mismatch}.")
    for side, count in comparison.without_samples.items():
        sentences.append(
            f"Times of {count} rows are not compared: the {side} has no samples of them. A report.json keeps none; "
            "the file of --benchmark-json does."
        )
    for reason, rows in _rows_by_reason(comparison).items():
        sentences.append(f"{', '.join(rows)}: {reason}.")
    for kind, noise in comparison.noise.items():
        sentences.append(_noise_sentence(kind, noise))
    if comparison.drift > MIN_DRIFT:
        sentences.append(
            f"The machine's matrix peak changed by {comparison.drift:.1%}; that is counted against any difference."
        )
    for name in comparison.added:
        sentences.append(f"Only in head: {_short_name(name)}.")
    for name in comparison.removed:
        sentences.append(f"Missing in head: {_short_name(name)}.")
    return sentences


def _unchanged_sentences(verdicts: Sequence[Verdict]) -> list[str]:
    count = 0
    for verdict in verdicts:
        if verdict.quantity != "time" and verdict.outcome == "unchanged":
            count += 1
    if count == 0:
        return []
    return [f"{count} accuracies, agreements, sizes and digests are unchanged."]


def _rows_by_reason(comparison: Comparison) -> dict[str, list[str]]:
    """Return the names of the rows with a reason of their own, by reason."""
    rows: dict[str, dict[str, None]] = {}
    for verdict in shown(comparison):
        if verdict.outcome != "unchanged" and verdict.reason not in ("", comparison.machine_mismatch):
            rows.setdefault(verdict.reason, {})[_short_name(verdict.row)] = None
    return {reason: list(names) for reason, names in rows.items()}


def _noise_sentence(kind: str, noise: Noise) -> str:
    source = "measured between sessions"
    if not noise.measured:
        source = "assumed for one session of each; a folder of several, or --revisions, measures it"
    return f"Noise of {kind}: {noise.variance**0.5:.1%} ({source})."


def terminal(comparison: Comparison) -> list[Group | str]:
    """Return what a terminal shows."""
    parts: list[Group | str] = []
    for table in tables(comparison):
        parts += [render(table), ""]
    return [*parts, title(comparison), *notes(comparison)]


def markdown(comparison: Comparison) -> str:
    """Return the same as Markdown."""
    lines = [f"## {title(comparison)}", ""]
    for table in tables(comparison):
        lines += [f"### {table.title}", "", markdown_table(table.columns, table.rows), ""]
    for note in notes(comparison):
        lines.append(f"- {note}")
    return "\n".join(lines) + "\n"


def _short_name(row: str) -> str:
    return " ".join(split_row_name(row))
