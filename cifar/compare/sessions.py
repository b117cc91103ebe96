"""Several sessions of the same code as one result: what differs between them is the effect of a session."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar.compare import benchmark_results, times
from cifar.compare.benchmark_results import BenchmarkResult, BenchmarkRow, MatrixPeak
from cifar.errors import UsageError


def read(path: Path) -> BenchmarkResult:
    """Read a benchmark result, or a folder with a result of each of several sessions.

    Raises:
        UsageError: there is none, one is not a benchmark result, or they differ in machine or commit.
    """
    if not path.is_dir():
        return benchmark_results.read(path)
    sessions = [benchmark_results.read(file) for file in sorted(path.glob("*.json"))]
    if not sessions:
        raise UsageError(f"{path}: there is no benchmark result in this folder.")
    for session in sessions[1:]:
        mismatch = times.describe_machine_mismatch(sessions[0], session)
        if mismatch:
            raise UsageError(f"{session.path}: not another session of {sessions[0].path}: {mismatch}.")
        if session.machine.commit != sessions[0].machine.commit:
            raise UsageError(f"{session.path}: not another session of {sessions[0].path}: its commit is another.")
    return replace(merge(sessions), path=path)


def merge(sessions: Sequence[BenchmarkResult]) -> BenchmarkResult:
    """Return the sessions of the same code as one result; only rows that all of them have are kept.

    Figures beside the samples are those of the first session.
    """
    first = sessions[0]
    rows = {}
    for name, row in first.rows.items():
        others = [session.rows[name] for session in sessions[1:] if name in session.rows]
        if len(others) == len(sessions) - 1:
            rows[name] = _merge_rows([row, *others])
    return replace(first, rows=rows, machine=first.machine.model_copy(update={"matrix_peak": _merge_peaks(sessions)}))


def _merge_rows(rows: Sequence[BenchmarkRow]) -> BenchmarkRow:
    measured: list[NDArray[np.float64]] = []
    for row in rows:
        measured += [samples for samples in row.sessions if len(samples)]
    return replace(rows[0], sessions=measured or rows[0].sessions)


def _merge_peaks(sessions: Sequence[BenchmarkResult]) -> dict[str, MatrixPeak]:
    flops: dict[str, list[float]] = {}
    for session in sessions:
        for threads, peak in session.machine.matrix_peak.items():
            flops.setdefault(threads, []).extend(peak.flops)
    return {threads: MatrixPeak(flops=measured) for threads, measured in flops.items()}
