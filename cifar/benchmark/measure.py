"""The measurement of `cifar bench`: latency, quality and cold start of model files, without pytest."""

from collections.abc import Callable, Sequence
from typing import Any

from cifar.benchmark import grid
from cifar.benchmark.grid import Case, Grid
from cifar.benchmark.inference import InferenceBenchmark
from cifar.benchmark.measurements import Measurements, Missing
from cifar.benchmark.models import BenchmarkModel
from cifar.benchmark.session import NotAvailableError, Row, Session
from cifar.compare.benchmark_results import FORMAT_VERSION
from cifar.errors import CifarError
from cifar.system import environment

Measure = Callable[[Case], tuple[list[float], Row]]


def measure_models(
    models: Sequence[BenchmarkModel],
    chosen: Grid,
    devices: Sequence[str],
    advance: Callable[[], None] = lambda: None,
    order_seed: int = 0,
) -> tuple[Measurements, dict[str, Any]]:
    """Measure every file of some models.

    Args:
        models: with distinct names.
        chosen: how much is measured.
        devices: `cpu`, `gpu` or both.
        advance: is called after each of the `count_cases` cases.
        order_seed: of the order in which a worker measures its cases.

    Returns:
        The measurements, and the facts of the machine.
    """
    session = Session(chosen, {model.name: model for model in models}, order_seed)
    session.inference = grid.inference_cases(chosen, models, devices)
    cold_starts = grid.cold_start_cases(chosen, models)
    session.formats = {case.format for case in session.inference}
    benchmark = InferenceBenchmark(session)
    measurements = Measurements([], [], session.peaks)
    interrupted = True
    try:
        for case in session.inference:
            _measure(f"test_latency[{case}]", case, benchmark.latency, measurements)
            advance()
        for case in cold_starts:
            _measure(f"test_cold_start[{case}]", case, benchmark.cold_start, measurements)
            advance()
        interrupted = False
    finally:
        session.end(interrupted)
    add_peak_fractions(session, measurements.rows)
    return measurements, machine_facts(session)


def count_cases(models: Sequence[BenchmarkModel], chosen: Grid, devices: Sequence[str]) -> int:
    """Return how many cases `measure_models` measures."""
    return len(grid.inference_cases(chosen, models, devices)) + len(grid.cold_start_cases(chosen, models))


def add_peak_fractions(session: Session, rows: Sequence[Row]) -> None:
    """Add to each row its share of the matrix peak, which is known only at the end of the session."""
    for row in rows:
        if "threads" in row and "images_per_second" in row:
            row["peak_fraction"] = session.peak_fraction(row)


def machine_facts(session: Session) -> dict[str, Any]:
    """Return where, and under which settings, a session measures."""
    peaks = {}
    for (threads, precision), peak in session.peaks.items():
        name = str(threads) if precision == "float32" else f"{threads} {precision}"
        peaks[name] = {"library": peak.library, "flops": peak.flops, "steady": peak.steady}
    return {
        **environment.facts(grid.ALL_THREADS),
        "format_version": FORMAT_VERSION,
        "matrix_peak": peaks,
        "order_seed": session.order_seed,
    }


def _measure(name: str, case: Case, measure: Measure, measurements: Measurements) -> None:
    """Add the row of a case, or why there is none."""
    try:
        _, row = measure(case)
    except NotAvailableError as reason:
        measurements.missing.append(Missing(name, "skipped", str(reason)))
    except CifarError as error:
        measurements.missing.append(Missing(name, "failed", str(error)))
    else:
        measurements.rows.append({"name": name, **row})
