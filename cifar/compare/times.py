"""Verdicts on times: tests on the medians of repeated measurements, corrected for the number of rows."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from cifar.compare.limits import Limits
from cifar.compare.results import Result, Row
from cifar.compare.verdict import FALSE_ALARMS, Verdict
from cifar.metrics import statistics
from cifar.metrics.statistics import Noise

Pair = tuple[Row, Row]


def machine_mismatch(base: Result, head: Result) -> str | None:
    """In words, what tells the machines of two results apart; None if they are alike as far as both are known."""
    there, here = _machine(base), _machine(head)
    differences = [
        f"{name} was {_words(there[name])}, is {_words(here[name])}"
        for name in here
        if there[name] != here[name] and there[name] is not None is not here[name]
    ]
    return "; ".join(differences) or None


def _machine(result: Result) -> dict[str, Any]:
    cpu, gpu = result.machine.cpu, result.machine.gpu
    return {
        "the processor": cpu.get("model"),
        "the processor's name": result.brand,
        "the number of cores": cpu.get("logical_cores"),
        "the instruction sets": cpu.get("instruction_sets"),
        "the GPU": gpu.get("model") if gpu else "none",
    }


def _words(value: Any) -> str:
    return ", ".join(dict.fromkeys(map(str, value))) if isinstance(value, list | tuple) else str(value)


def noise(pairs: list[Pair]) -> dict[str, Noise]:
    """What the repeated rows of each kind tell of its noise."""
    kinds = dict.fromkeys(row.kind for _, row in pairs if len(row.samples))
    both = [row for pair in pairs for row in pair if row.repeated]
    return {
        kind: statistics.estimate_noise(
            [statistics.log_median_variance(row.repetitions) for row in both if row.kind == kind]
        )
        for kind in kinds
    }


def drift(base: Result, head: Result, row: Row) -> float:
    """By how much the matrix peak at a row's threads changed from one result to the other, as a logarithm."""
    before, after = (result.peak(row.facts.get("threads")) for result in (base, head))
    return abs(math.log(after / before)) if before and after else 0.0


def compare_times(
    pairs: list[Pair],
    noises: dict[str, Noise],
    drifts: dict[str, float],
    limits: Limits,
    machine_mismatch: str | None,
) -> list[Verdict]:
    """The verdicts on the times of rows, a pair each; those without samples have none.

    Args:
        pairs: the row of the base and that of the head.
        noises: by kind; empty where no times can be compared.
        drifts: by name.
        limits: the smallest differences that matter.
        machine_mismatch: why no times can be compared; None if they can.
    """
    timed = [pair for pair in pairs if len(pair[0].samples) and len(pair[1].samples) and pair[1].kind != "gain"]
    verdicts = [_compare_row(pair, noises, drifts[pair[1].name], limits, machine_mismatch) for pair in timed]
    tested = [verdict for verdict in verdicts if verdict.p_value is not None]
    adjusted = statistics.holm([verdict.p_value or 0.0 for verdict in tested])
    corrected = [_corrected(verdict, p, limits) for verdict, p in zip(tested, adjusted, strict=True)]
    return [*corrected, *(verdict for verdict in verdicts if verdict.p_value is None)]


def _compare_row(
    pair: Pair, noises: dict[str, Noise], drift: float, limits: Limits, machine_mismatch: str | None
) -> Verdict:
    """The verdict on a row's time as far as its interval tells: alike or not, its p-value not yet corrected."""
    base, head = pair
    before, after = float(np.median(base.samples)), float(np.median(head.samples))
    other = machine_mismatch or _otherwise(base, head)
    if other:
        return Verdict(head.name, "time", "not comparable", before, after, reason=other)
    found = statistics.time_ratio(base.repetitions, head.repetitions, noises[head.kind], drift)
    margin = 1 + limits.of(head.name).time
    return Verdict(
        row=head.name,
        quantity="time",
        outcome="unchanged" if found.interval[0] > 1 / margin and found.interval[1] < margin else "inconclusive",
        base=before,
        head=after,
        change=found.ratio,
        interval=found.interval,
        p_value=found.p_value,
    )


def _corrected(verdict: Verdict, p_value: float, limits: Limits) -> Verdict:
    """A verdict with its corrected p-value, and the word that this gives it."""
    assert verdict.change is not None
    margin, outcome = 1 + limits.of(verdict.row).time, verdict.outcome
    if p_value <= FALSE_ALARMS and verdict.change >= margin:
        outcome = "regressed"
    elif p_value <= FALSE_ALARMS and verdict.change <= 1 / margin:
        outcome = "improved"
    return replace(verdict, outcome=outcome, p_value=p_value)


def _otherwise(base: Row, head: Row) -> str | None:
    """What makes the times of two rows of one name speak of different things."""
    for column in ("threads", "device", "batch", "data_sha256"):
        before, after = base.facts.get(column), head.facts.get(column)
        if before != after:
            return f"{column} was {str(before)[:16]}, is {str(after)[:16]}"
    return None
