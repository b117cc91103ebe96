"""Taking samples, and what may be said from how many of them."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psutil

from cifar.inference.runtimes.program import ProgramSession

MIN_SAMPLES = {50: 64, 90: 130, 99: 662}
"""Samples from which a sample percentile is printed: six of them or more lie beyond it.

It estimates the true percentile and is no bound on it: the 99th of 662 samples reaches the true one 40 times in 100.
"""

WINDOW = 5  # calls compared with the calls before them
STEADY = 0.05  # relative change of a window's median below which a case is steady
WARM_UP_SECONDS = 2.0
PROGRAM_WARM_UP_SECONDS = 15.0  # of an engine that compiles what runs while it runs, on threads of its own
QUIET_SECONDS = 0.5  # for which such an engine must have left the cores to the call
QUIET_CORES = 0.25  # that it may still take beside the call's threads
BUSY = 0.1  # of the busiest thread's processor time, from which a thread is busy
MIN_THREAD_SECONDS = 0.1  # of the busiest thread, below which the system's clock is too coarse


@dataclass(frozen=True)
class Samples:
    """The times of a call.

    Attributes:
        seconds: of each call, in order.
        warm_up: calls before them.
        steady: whether the warm-up ended because the times no longer changed.
        cores_busy: processor time of what computes over the time that passed, while the samples were taken.
        threads_busy: threads that took a tenth or more of the busiest one's processor time meanwhile; 0 if the time
            was too short to tell.
    """

    seconds: list[float]
    warm_up: int
    steady: bool
    cores_busy: float
    threads_busy: int


def sample(
    call: Callable[[], object], budget: float, processes: int = 1, program: ProgramSession | None = None
) -> Samples:
    """Time a call: warmed up, without garbage collection, at least 64 times.

    Sampling ends with enough samples for every percentile; after `budget` seconds if there are enough for p90; after
    three times that if there are enough for p50. Where several processes share a case, each takes its part of
    samples and seconds. Where a program of its own does the work, its own clock and its processes are read.
    """
    gc.collect()
    gc.disable()
    try:
        measured = program.processes() if program else [psutil.Process()]
        warm_up, steady = _warm_up(call, program)
        seconds: list[float] = []
        threads_started = _thread_seconds(measured)
        started, cpu_started = time.perf_counter(), _processor_seconds(measured)
        while not _is_enough(processes * len(seconds), processes * (time.perf_counter() - started), budget):
            seconds.append(_seconds_of(call, program))
        cores_busy = (_processor_seconds(measured) - cpu_started) / (time.perf_counter() - started)
        threads_busy = _count_busy(threads_started, _thread_seconds(measured))
    finally:
        gc.enable()
    return Samples(seconds, warm_up, steady, cores_busy, threads_busy)


def sample_percentile(seconds: Sequence[float], percent: int) -> float | None:
    """Return a percentile of the samples, one of MIN_SAMPLES; None where there are too few samples for it."""
    if len(seconds) < MIN_SAMPLES[percent]:
        return None
    return float(np.percentile(seconds, percent))


def _seconds_of(call: Callable[[], object], program: ProgramSession | None) -> float:
    """The time of a call: on the program's clock where a program does the work."""
    if program is not None:
        before = program.seconds
        call()
        return program.seconds - before
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def _thread_seconds(processes: Sequence[psutil.Process]) -> dict[int, float]:
    """The processor time of every thread of some processes, in seconds, by its id; in steps of 0.01 s on Linux."""
    seconds = {}
    for process in processes:
        for thread in process.threads():
            seconds[thread.id] = thread.user_time + thread.system_time
    return seconds


def _processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """The processor time of some processes; of this one alone by its finer clock."""
    if processes == [psutil.Process()]:
        return time.process_time()
    times = [process.cpu_times() for process in processes]
    return sum(of_one.user + of_one.system for of_one in times)


def _count_busy(before: Mapping[int, float], after: Mapping[int, float]) -> int:
    """Count the threads that took a tenth or more of the busiest one's processor time between two readings."""
    seconds = np.array([total - before.get(thread, 0.0) for thread, total in after.items()])
    busiest = seconds.max()
    if busiest < MIN_THREAD_SECONDS:
        return 0
    return int((seconds >= BUSY * busiest).sum())


def _warm_up(call: Callable[[], object], program: ProgramSession | None) -> tuple[int, bool]:
    """Call until two windows in a row have nearly the same median; return the calls, and whether that was reached.

    Before that, an engine in a program of its own is called until it no longer compiles beside the call.
    """
    compiled = program is None or _wait_for_compilation(call, program)
    calls, steady = _call_until_steady(call, program)
    return calls, steady and compiled


def _wait_for_compilation(call: Callable[[], object], program: ProgramSession) -> bool:
    """Call until the program's processes are no busier than its threads; return whether that was reached in time."""
    processes, started = program.processes(), time.perf_counter()
    while time.perf_counter() - started < PROGRAM_WARM_UP_SECONDS:
        before, busy_before = time.perf_counter(), _processor_seconds(processes)
        while time.perf_counter() - before < QUIET_SECONDS:
            call()
        busy = (_processor_seconds(processes) - busy_before) / (time.perf_counter() - before)
        if busy <= program.threads + QUIET_CORES:
            return True
    return False


def _call_until_steady(call: Callable[[], object], program: ProgramSession | None) -> tuple[int, bool]:
    started, previous, calls = time.perf_counter(), float("inf"), 0
    while True:
        window = [_seconds_of(call, program) for _ in range(WINDOW)]
        calls += WINDOW
        median = float(np.median(window))
        if abs(median - previous) <= STEADY * median:
            return calls, True
        if time.perf_counter() - started > WARM_UP_SECONDS:
            return calls, False
        previous = median


def _is_enough(n: int, elapsed: float, budget: float) -> bool:
    """Whether n samples, taken in so many seconds, are enough."""
    if n >= MIN_SAMPLES[99]:
        return True
    if n >= MIN_SAMPLES[90]:
        return elapsed > budget
    return n >= MIN_SAMPLES[50] and elapsed > 3 * budget
