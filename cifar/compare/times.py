"""Verdicts on times: tests on the medians of sessions, corrected for the number of rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cifar.compare.benchmark_results import BenchmarkResult, BenchmarkRow
from cifar.compare.limits import Limits
from cifar.compare.verdict import FALSE_ALARM_RATE, Outcome, Verdict
from cifar.metrics import statistics
from cifar.metrics.statistics import Noise

RowPair = tuple[BenchmarkRow, BenchmarkRow]
"""A row of the base, and the row of that name in the head."""


UNTIMED = ("gain", "time-to-accuracy")  # kinds of rows whose samples are no times of this session


@dataclass(frozen=True)
class MeasuringConditions:
    """The conditions under which two results were measured.

    Attributes:
        machine_mismatch: how their machines differ, so that no times can be compared; None if they do not.
        noise: between sessions, by kind of row; empty if no times can be compared.
        drift: by name of row, the change of the machine's matrix peak at the row's threads, as |log(head / base)|.
    """

    machine_mismatch: str | None
    noise: dict[str, Noise]
    drift: dict[str, float]


def measuring_conditions(
    base: BenchmarkResult, head: BenchmarkResult, pairs: Sequence[RowPair]
) -> MeasuringConditions:
    """The conditions under which two results were measured."""
    drift = {}
    for _, row in pairs:
        drift[row.name] = _peak_drift(base, head, row.columns.threads)
    mismatch = describe_machine_mismatch(base, head)
    if mismatch:
        return MeasuringConditions(mismatch, {}, drift)
    return MeasuringConditions(None, estimate_noise(pairs), drift)


def describe_machine_mismatch(base: BenchmarkResult, head: BenchmarkResult) -> str | None:
    """How the machines of two results differ; None if they are alike as far as both are known."""
    differences = []
    head_properties = _machine_properties(head)
    for name, before in _machine_properties(base).items():
        after = head_properties[name]
        if before is not None and after is not None and before != after:
            differences.append(f"{name} was {_describe(before)}, is {_describe(after)}")
    return "; ".join(differences) or None


def _machine_properties(result: BenchmarkResult) -> dict[str, Any]:
    """What two machines must share for their times to be comparable; None for what is not known."""
    cpu = result.machine.cpu
    gpu = result.machine.gpu or {"model": "none"}
    return {
        "the processor": cpu.get("model"),
        "the processor's name": result.cpu_brand,
        "the number of cores": cpu.get("logical_cores"),
        "the instruction sets": cpu.get("instruction_sets"),
        "the GPU": gpu.get("model"),
    }


def _describe(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(dict.fromkeys(map(str, value)))
    return str(value)


def estimate_noise(pairs: Sequence[RowPair]) -> dict[str, Noise]:
    """The noise between sessions, by kind of row that has times, from all rows that several sessions measured.

    Where one session measured each side, it is an assumption: the processes of a session share what it does to a row.
    """
    variances: dict[str, list[tuple[float, int]]] = {}
    for pair in pairs:
        for row in pair:
            if len(row.samples):
                variances.setdefault(row.columns.kind, []).append(statistics.log_median_variance(row.sessions))
    return {kind: statistics.estimate_noise(rows) for kind, rows in variances.items()}


def _row_noise(base: BenchmarkRow, head: BenchmarkRow, noise: Noise) -> Noise:
    """The noise of a row: where it is assumed, with what the processes of a session show beside it."""
    if noise.measured:
        return noise
    return replace(noise, variance=noise.variance + max(_variance_by_processes(base), _variance_by_processes(head)))


def _variance_by_processes(row: BenchmarkRow) -> float:
    """The variance of the logarithm of a row's median, as the processes of a session show it."""
    variance, _ = statistics.log_median_variance(row.processes)
    return variance / len(row.processes)


def _peak_drift(base: BenchmarkResult, head: BenchmarkResult, threads: int | None) -> float:
    """The change of the matrix peak at a number of threads, as |log(head / base)|; 0 where it is not known."""
    before, after = base.peak_flops(threads), head.peak_flops(threads)
    if before is None or after is None:
        return 0.0
    return abs(math.log(after / before))


def count_without_samples(pairs: Sequence[RowPair]) -> dict[str, int]:
    """How many rows of `base` and of `head` lack the samples that a comparison of times needs, where any do."""
    counts = {"base": 0, "head": 0}
    for pair in pairs:
        for side, row in zip(counts, pair, strict=True):
            if row.columns.kind not in UNTIMED and not len(row.samples):
                counts[side] += 1
    return {side: count for side, count in counts.items() if count}


def compare_times(pairs: Sequence[RowPair], conditions: MeasuringConditions, limits: Limits) -> list[Verdict]:
    """The verdicts on the times of the rows that have samples on both sides; first those that were tested."""
    tested, p_values, not_tested = [], [], []
    for base, head in pairs:
        if not len(base.samples) or not len(head.samples) or head.columns.kind in UNTIMED:
            continue
        verdict = _compare_row(base, head, conditions, limits)
        if verdict.p_value is None:
            not_tested.append(verdict)
        else:
            tested.append(verdict)
            p_values.append(verdict.p_value)
    corrected = []
    for verdict, p_value in zip(tested, statistics.holm(p_values), strict=True):
        corrected.append(_with_corrected_p_value(verdict, p_value, limits))
    return corrected + not_tested


def _compare_row(base: BenchmarkRow, head: BenchmarkRow, conditions: MeasuringConditions, limits: Limits) -> Verdict:
    """The verdict on a row's time by its interval alone, and its p-value before the correction for many rows."""
    verdict = Verdict(
        row=head.name,
        quantity="time",
        outcome="not comparable",
        base=float(np.median(base.samples)),
        head=float(np.median(head.samples)),
    )
    mismatch = conditions.machine_mismatch or _describe_settings_mismatch(base, head)
    if mismatch:
        return replace(verdict, reason=mismatch)
    noise = _row_noise(base, head, conditions.noise[head.columns.kind])
    ratio = statistics.time_ratio(base.sessions, head.sessions, noise, conditions.drift[head.name])
    low, high = ratio.interval
    margin = 1 + limits.for_row(head.name).time
    outcome: Outcome = "inconclusive"
    if 1 / margin < low and high < margin:
        outcome = "unchanged"
    return replace(verdict, outcome=outcome, change=ratio.ratio, interval=ratio.interval, p_value=ratio.p_value)


def _with_corrected_p_value(verdict: Verdict, p_value: float, limits: Limits) -> Verdict:
    """The verdict with its corrected p-value, and the outcome that follows from it."""
    assert verdict.change is not None
    outcome = verdict.outcome
    margin = 1 + limits.for_row(verdict.row).time
    if p_value <= FALSE_ALARM_RATE and verdict.change >= margin:
        outcome = "regressed"
    elif p_value <= FALSE_ALARM_RATE and verdict.change <= 1 / margin:
        outcome = "improved"
    return replace(verdict, outcome=outcome, p_value=p_value)


def _describe_settings_mismatch(base: BenchmarkRow, head: BenchmarkRow) -> str | None:
    """The first setting in which two rows of one name differ, so that their times cannot be compared."""
    for column in ("threads", "device", "batch", "data_sha256"):
        before, after = getattr(base.columns, column), getattr(head.columns, column)
        if before != after:
            return f"{column} was {str(before)[:16]}, is {str(after)[:16]}"
    return None
