"""What several runtimes make of a file, as tables."""

from collections.abc import Sequence

from cifar.analysis.summary import Summary
from cifar.inference import runtime_parity
from cifar.inference.isolated_prediction import WhatRan
from cifar.inference.runtime_parity import FileParity, Pair
from cifar.report import numbers
from cifar.report.table import Table

NOTE = (
    "Right of the diagonal: images that two runtimes sort into different classes. Left of it: the largest difference "
    "of a probability."
)

DETAILS = {
    "arena_bytes": "arena {:,} bytes",
    "clock_resolution": "clock of {:.0e} s",
    "host": "{}",
    "operations": "operations {}",
    "streams": "{} stream(s)",
    "wasm_bytes": "wasm {:,} bytes",
}
"""What a runtime says of itself, as text."""
KEPT_NOTE = (
    "Runtimes: test images that a runtime sorts into another class than the one that it is compared with, and the "
    "largest difference of a probability, as `cifar parity` kept it beside the file; all pairs are there."
)


def kept(summary: Summary) -> Table:
    """Return what `cifar parity` kept beside the exported files of runs: of each file a row per further runtime."""
    rows = []
    for result in summary.results:
        for entry in result.exports:
            parity = runtime_parity.read(result.run.path / "exports" / entry.file)
            if parity is None or parity.sha256 != entry.sha256:
                continue
            compared_with = next(iter(parity.versions), "")
            for pair in parity.pairs:
                if pair.first == compared_with:
                    ran = _facts(parity.ran[pair.second])
                    flips, difference = str(len(pair.flips)), f"{pair.max_difference:.0e}"
                    rows.append((entry.file, compared_with, pair.second, flips, difference, ran))
    columns = ("file", "compared with", "runtime", "changed>", "difference>", "what ran")
    return Table("Runtimes", columns, rows, [KEPT_NOTE])


def matrix(result: FileParity) -> Table:
    """Return a row and a column per runtime that predicted."""
    names = list(result.versions)
    pairs = {(pair.first, pair.second): pair for pair in result.pairs}
    rows = []
    for number, row_name in enumerate(names, start=1):
        accuracy = result.accuracy[row_name]
        test = numbers.NONE if accuracy is None else f"{100 * accuracy:.2f}"
        cells = [_cell(row_name, column_name, pairs) for column_name in names]
        rows.append((str(number), row_name, result.versions[row_name], test, *cells))
    precision = result.precision or "precision not recorded"
    title = f"{result.file} ({precision}), {result.images:,} images"
    numbered = [f"{number}>" for number in range(1, len(names) + 1)]
    columns = ("#>", "runtime", "version", "test %>", *numbered)
    return Table(title, columns, rows, [NOTE, _what_ran(result, names)])


def _what_ran(result: FileParity, names: Sequence[str]) -> str:
    """What computed in each runtime, in a line."""
    sentences = []
    for number, name in enumerate(names, start=1):
        sentences.append(f"{number} {_facts(result.ran[name])}")
    return f"What ran: {'; '.join(sentences)}."


def _facts(ran: WhatRan) -> str:
    details = [_detail(*item) for item in ran.details.items()]
    return ", ".join([ran.provider, f"{ran.threads} thread(s)", *details])


def _detail(name: str, value: float | str) -> str:
    return DETAILS[name].format(value) if name in DETAILS else f"{name} {value}"


def _cell(row_name: str, column_name: str, pairs: dict[tuple[str, str], Pair]) -> str:
    if (row_name, column_name) in pairs:
        return str(len(pairs[row_name, column_name].flips))
    if (column_name, row_name) in pairs:
        return f"{pairs[column_name, row_name].max_difference:.0e}"
    return numbers.NONE


def flips_table(result: FileParity, class_names: Sequence[str], limit: int) -> list[Table]:
    """Return a table of up to `limit` images that change their class in float32; none without any."""
    rows = []
    for pair in result.pairs:
        if pair.is_float32:
            for flip in pair.flips:
                classes = class_names[flip.first], class_names[flip.second]
                rows.append((str(flip.image), pair.first, classes[0], pair.second, classes[1]))
    if not rows:
        return []
    columns = ("image>", "in", "class", "in", "class")
    return [Table(f"Changed classes in float32: {len(rows)}", columns, rows[:limit])]
