"""Benchmark results made up for tests: rows with simulated noise, as `--benchmark-json` writes them."""

import math
from typing import Any

import numpy as np

PROCESSES, SAMPLES = 3, 100  # of a row

MACHINE: dict[str, Any] = {
    "format_version": 2,
    "packages": {"tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.4.6"},
    "cpu": {"model": "a cpu", "logical_cores": 2, "instruction_sets": ["avx2"]},
    "gpu": None,
    "settings": {"training_step": 2},
    "matrix_peak": {"1": {"flops": [1e11, 1e11]}},
}


def noisy_samples(random: np.random.Generator, deviation: float, heavy: bool, factor: float = 1.0) -> list[float]:
    """Times of about 1 ms times `factor`, in seconds, 100 of each of three processes, some of them interrupted.

    Args:
        random: the generator.
        deviation: standard deviation of the processes' logarithms; that of the samples within a process is 0.03.
        heavy: whether the processes' noise has heavy tails.
        factor: of all times.
    """
    times: list[float] = []
    for _ in range(PROCESSES):
        process_noise = random.standard_t(3) / math.sqrt(3) if heavy else random.standard_normal()
        samples = factor * 1e-3 * np.exp(deviation * process_noise + 0.03 * random.standard_normal(SAMPLES))
        interrupted = random.random(SAMPLES) < 0.03
        samples[interrupted] *= 1 + random.exponential(2, interrupted.sum())
        times += samples.tolist()
    return times


def benchmark_row(name: str, samples: list[float], **columns: Any) -> dict[str, Any]:
    """A row with these samples, and these columns beside or instead of the usual ones."""
    usual = {"kind": "inference", "threads": 1, "device": "cpu", "batch": 1, "repeats": [SAMPLES] * PROCESSES}
    return {"name": name, "extra_info": {**usual, **columns}, "stats": {"data": samples}}


def steady_row(name: str = "row", factor: float = 1.0, **columns: Any) -> dict[str, Any]:
    """A row with little noise, whose times are multiplied by `factor`."""
    samples = noisy_samples(np.random.default_rng(len(name)), 0.003, heavy=False, factor=factor)
    return benchmark_row(name, samples, **columns)


def benchmark_result(*rows: dict[str, Any], **machine: Any) -> dict[str, Any]:
    """A result with these rows, and these facts of the machine beside or instead of MACHINE's."""
    info = {"cifar": {**MACHINE, **machine}, "cpu": {"brand_raw": "A CPU"}}
    return {"machine_info": info, "benchmarks": list(rows)}
