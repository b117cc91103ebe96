"""The rows of a benchmark result, as the page shows them: a table, and accuracy over latency."""

from cifar.compare.benchmark_results import BenchmarkResult, BenchmarkRow
from cifar.metrics import statistics
from cifar.report import numbers
from cifar.report.html.content import Cell, Grid, Row
from cifar.report.html.trade_off import Point

COLUMNS = (
    "model",
    "format",
    "runtime",
    "device",
    "batch",
    "threads",
    "test %",
    "agree %",
    "p50 ms",
    "images/s",
    "kB",
)
FILTERS = ("model", "format", "runtime", "device", "batch", "threads")
NOTE = (
    "Of {machine}, measured {started}. test %: ± half of Wilson's 95 % interval over the test images. agree %: test "
    "images in the Keras model's class. p50: median latency of a batch. Bold: the highest test accuracy."
)


def grid(result: BenchmarkResult) -> Grid:
    """Return the table of a result's inference rows."""
    rows = _inference_rows(result)
    best = max((row.columns.accuracy or 0 for row in rows), default=0.0)
    note = NOTE.format(machine=_machine(result), started=result.machine.started[:10] or "on an unrecorded day")
    return Grid(COLUMNS, FILTERS, [_row(row, best, result) for row in rows], note)


def trade_offs(result: BenchmarkResult) -> dict[str, tuple[str, list[Point]]]:
    """Return accuracy over the latency of single images on one thread, as `content.trade_offs` does."""
    points = []
    for row in _inference_rows(result):
        columns = row.columns
        if (columns.batch, columns.threads) != (1, 1) or not columns.accuracy or not columns.p50_ms:
            continue
        name = f"{columns.model} {columns.format} {columns.runtime or ''} {columns.device}"
        title = f"{name}: {100 * columns.accuracy:.2f} %, {columns.p50_ms:.3g} ms"
        points.append(Point(columns.p50_ms, columns.accuracy, columns.format or "", title))
    if not points:
        return {}
    return {"Accuracy over latency": ("Median latency of one image, one thread, ms", points)}


def _inference_rows(result: BenchmarkResult) -> list[BenchmarkRow]:
    return [row for row in result.rows.values() if row.columns.kind == "inference"]


def _row(row: BenchmarkRow, best: float, result: BenchmarkResult) -> Row:
    columns = row.columns
    cells = [
        Cell(columns.model or "", columns.model or ""),
        Cell(columns.format or "", columns.format or ""),
        Cell(columns.runtime or "", columns.runtime or ""),
        Cell(columns.device or "", columns.device or ""),
        _number(columns.batch, "{:,}"),
        _number(columns.threads, "{}"),
        _accuracy(row),
        _number(columns.agreement, "{:.2%}"),
        _number(columns.p50_ms, "{:.3g}"),
        _number(columns.images_per_second, "{:,.0f}"),
        _number(columns.file_bytes and columns.file_bytes / 1000, "{:,.0f}"),
    ]
    source = [
        ("row", row.name),
        ("file", str(result.path)),
        ("machine", _machine(result)),
        ("images", f"{columns.n_test or 0:,} test images"),
        ("commit", result.machine.commit or "not recorded"),
    ]
    return Row(cells, source, columns.accuracy is not None and columns.accuracy == best)


def _number(value: float | None, form: str) -> Cell:
    if value is None:
        return Cell(numbers.NONE, -1)
    return Cell(form.format(value), value)


def _accuracy(row: BenchmarkRow) -> Cell:
    accuracy, n = row.columns.accuracy, row.columns.n_test
    if accuracy is None or not n:
        return _number(accuracy, "{:.2%}")
    interval = statistics.proportion_interval(round(accuracy * n), n)
    return Cell(numbers.plus_minus(f"{100 * accuracy:.2f}", interval), accuracy)


def _machine(result: BenchmarkResult) -> str:
    cpu = result.machine.cpu
    return f"{result.cpu_brand or cpu.get('model')}, {cpu.get('logical_cores')} cores"
