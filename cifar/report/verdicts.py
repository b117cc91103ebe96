"""A comparison for people: one table, in the terminal and in Markdown."""

from rich.console import Group

from cifar.compare.results import split_row_name
from cifar.compare.verdict import OUTCOMES, Comparison, Verdict
from cifar.report.table import Table, markdown_table, render

TIMES = ("row", "base>", "head>", "change>", "95 %>", "verdict")
OTHERS = ("row", "of", "base>", "head>", "verdict")
HIDDEN = {"time": ("not comparable",)}  # words that are worth no line, by quantity; else `unchanged` alone


def title(comparison: Comparison) -> str:
    """How many of what, in a line."""
    counts = ", ".join(f"{comparison.count(outcome)} {outcome}" for outcome in OUTCOMES if comparison.count(outcome))
    return f"Verdicts: {counts or 'nothing to compare'}"


def shown(comparison: Comparison) -> list[Verdict]:
    """The verdicts that are worth a line."""
    return [found for found in comparison.verdicts if found.outcome not in HIDDEN.get(found.quantity, ("unchanged",))]


def sections(comparison: Comparison) -> list[Table]:
    """The tables."""
    verdicts = shown(comparison)
    timed = [verdict for verdict in verdicts if verdict.quantity == "time"]
    made = []
    for test in dict.fromkeys(split_row_name(verdict.row)[0] for verdict in timed):
        rows = [_time_cells(verdict) for verdict in timed if split_row_name(verdict.row)[0] == test]
        made.append(Table(f"Times: {test}", TIMES, rows))
    others = [_other_cells(verdict) for verdict in verdicts if verdict.quantity != "time"]
    return [*made, Table("Quality that is not as it was", OTHERS, others)] if others else made


def _time_cells(verdict: Verdict) -> tuple[str, ...]:
    assert verdict.change is not None
    assert verdict.interval is not None
    low, high = verdict.interval
    return (
        split_row_name(verdict.row)[1],
        _value(verdict, verdict.base),
        _value(verdict, verdict.head),
        f"x {verdict.change:.2f}",
        f"{low:.2f} to {high:.2f}",
        verdict.outcome,
    )


def _other_cells(verdict: Verdict) -> tuple[str, ...]:
    values = (_value(verdict, verdict.base), _value(verdict, verdict.head))
    return " ".join(split_row_name(verdict.row)), verdict.quantity, *values, verdict.outcome


def notes(comparison: Comparison) -> list[str]:
    """What must be said under the table."""
    said = []
    unchanged = [found for found in comparison.verdicts if found.quantity != "time" and found.outcome == "unchanged"]
    if unchanged:
        said.append(f"{len(unchanged)} accuracies, agreements, sizes and digests are unchanged.")
    if comparison.machine_mismatch:
        said.append(f"Times are not comparable: {comparison.machine_mismatch}.")
    for reason in dict.fromkeys(verdict.reason for verdict in shown(comparison) if verdict.outcome != "unchanged"):
        if reason and reason != comparison.machine_mismatch:
            rows = [_short(verdict.row) for verdict in shown(comparison) if verdict.reason == reason]
            said.append(f"{', '.join(dict.fromkeys(rows))}: {reason}.")
    for kind, noise in comparison.noise.items():
        how = "measured between repetitions" if noise.measured else "assumed: nothing was repeated"
        said.append(f"Noise of {kind}: {noise.variance**0.5:.1%} ({how}).")
    if comparison.drift > 0.001:
        said.append(
            f"The machine's matrix peak changed by {comparison.drift:.1%}; that is counted against any difference."
        )
    said += [f"Only in head: {_short(name)}." for name in comparison.added]
    said += [f"Only in base: {_short(name)}." for name in comparison.removed]
    return said


def terminal(comparison: Comparison) -> list[Group | str]:
    """What a terminal shows."""
    tables = [render(section) for section in sections(comparison)]
    return [*(part for made in tables for part in (made, "")), title(comparison), *notes(comparison)]


def markdown(comparison: Comparison) -> str:
    """The same as Markdown."""
    lines = [f"## {title(comparison)}", ""]
    for section in sections(comparison):
        lines += [f"### {section.title}", "", markdown_table(section.columns, section.rows), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes(comparison))]) + "\n"


def _short(row: str) -> str:
    return " ".join(split_row_name(row))


def _value(verdict: Verdict, value: float | None) -> str:
    if value is None:
        return "-"
    match verdict.quantity:
        case "time":
            return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"
        case "accuracy" | "agreement":
            return f"{value:.2%}"
        case _:
            return f"{value:,.0f}"
