"""The rows of a session as tables: which columns, in which order, the best value marked, and notes."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from cifar.benchmark.session import Peak, Row
from cifar.benchmark.training_methods import OURS, TRAINING_METHODS
from cifar.report.table import Table

BEST = "*"
PROVIDERS = {"CPUExecutionProvider": "CPU EP", "CUDAExecutionProvider": "CUDA EP", "CPU": "TF CPU", "GPU": "TF GPU"}
"""Providers with a shorter name in tables."""


@dataclass(frozen=True)
class Missing:
    """A row that was not measured: its case, `failed` or `skipped`, and the reason."""

    case: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Measurements:
    """What a session measured.

    Attributes:
        rows: of every case that was measured.
        missing: the others.
        peaks: the matrix peak by number of threads.
    """

    rows: list[Row]
    missing: list[Missing]
    peaks: dict[int, Peak]

    def of(self, kind: str) -> list[Row]:
        """Return the rows of a kind."""
        return [row for row in self.rows if row["kind"] == kind]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: as in Table.columns.
        key: of the row's value.
        form: makes a text of a value.
        best: max or min, where one of them is best.
    """

    heading: str
    key: str
    form: Callable[[Any], str] = str
    best: Callable[[list[Any]], Any] | None = None

    def text(self, row: Row) -> str:
        """Return a row's value as printed; a dash where there is none."""
        value = row.get(self.key)
        return "-" if value is None else self.form(value)


def _milliseconds(value: float) -> str:
    """Milliseconds in five characters."""
    for limit, digits in ((10, 3), (100, 2), (1000, 1)):
        if value < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def _percent_rounded_down(value: float) -> str:
    """A percentage with one digit, rounded down: 100.0 is all of them."""
    return f"{math.floor(round(10 * value, 6)) / 10:.1f}"


INFERENCE = (
    Column("format", "format"),
    Column("b>", "batch"),
    Column("test %>", "accuracy_percent", "{:.2f}".format, max),
    Column("agree>", "agreement_percent", _percent_rounded_down, max),
    Column("p50>", "p50_ms", _milliseconds, min),
    Column("p90>", "p90_ms", _milliseconds, min),
    Column("p99>", "p99_ms", _milliseconds, min),
    Column("img/s>", "images_per_second", "{:,.0f}".format, max),
    Column("peak>", "peak_fraction", "{:.0%}".format),
    Column("cold>", "cold_start_s", "{:.2f}".format, min),
    Column("load>", "load_ms", _milliseconds, min),
    Column("MiB>", "memory_mib", "{:.0f}".format, min),
    Column("kB>", "file_kb", "{:.0f}".format, min),
    Column("ran on", "ran_on"),
)
INFERENCE_LEGEND = (
    f"b: batch size, {BEST} the best for it. agree: % with the Keras model's class, rounded down. p50, p90, p99: "
    "sample percentiles (from 64, 130, 662 samples on), ms. load: ms. peak: share of a float32 matrix product at "
    "these threads. cold: s from process start to the first prediction. MiB: peak memory of a process that loads the "
    "file and predicts. ran on: with the share of the file's operations, where a delegate runs some of them."
)
TRAINING = (
    Column("network", "model"),
    Column("augment", "augment"),
    Column("method", "method"),
    Column("batch>", "batch"),
    Column("img/s>", "images_per_second", "{:,.0f}".format),
    Column("of ours>", "of_ours", "{:.2f}".format),
    Column("of plain>", "of_plain", "{:.2f}".format),
    Column("slowest>", "slowest_over_median", "{:.1f}".format),
    Column("peak>", "peak_fraction", "{:.0%}".format),
    Column("MiB>", "memory_mib", "{:,.0f}".format),
)
AUGMENTATION = (
    Column("policy", "augment"),
    Column("batch>", "batch"),
    Column("thr>", "threads"),
    Column("img/s>", "images_per_second", "{:,.0f}".format, max),
)
GAIN = (
    Column("network", "model"),
    Column("augment", "augment"),
    Column("plain>", "plain", "{:.1%}".format),
    Column("augm.>", "augmented", "{:.1%}".format),
    Column("gain>", "gain_points", "{:+.1f}".format),
    Column("95 %>", "interval_points"),
    Column("last 5>", "mean_last_epochs_points", "{:+.1f}".format),
    Column("seeds>", "seed_count"),
    Column("min to 75 %>", "minutes_to_75_plain", "{:.1f}".format),
    Column("augm.>", "minutes_to_75_augmented", "{:.1f}".format),
)
TIME_TO_ACCURACY = (
    Column("network", "model"),
    Column("augment", "augment"),
    Column("seed>", "seed"),
    Column("epochs>", "epochs"),
    Column("thr>", "threads"),
    Column("min>", "minutes", "{:.1f}".format),
    Column("test %>", "accuracy_percent", "{:.2f}".format, max),
    Column("views %>", "views_percent", "{:.2f}".format, max),
    Column("min to 94 %>", "minutes_to_94", "{:.1f}".format, min),
    Column("views>", "minutes_to_94_mirror_shift", "{:.1f}".format, min),
    Column("trained on", "trained_on"),
)
TIME_TO_ACCURACY_NOTE = (
    "min: minutes of training, without scoring, as the run recorded them; to 94 %: until an epoch tests at 94 %. "
    "views: with test-time augmentation (mirror-shift) after the last epoch."
)


def all_tables(measurements: Measurements) -> list[Table]:
    """Return everything that is printed, in order."""
    tables = _inference_tables(measurements)
    training = training_rows(measurements)
    if training:
        tables.append(_table("Training steps", TRAINING, training, _training_notes(measurements, training)))
    augmentation = measurements.of("augmentation")
    if augmentation:
        notes = ["One thread, batches made ahead of training."]
        tables.append(_table("Augmentation alone", AUGMENTATION, augmentation, notes))
    gains = gain_rows(measurements)
    if gains:
        note = (
            "gain: points of test accuracy after the last epoch; last 5: of the means over the last five epochs. "
            f"95 %: {gains[0]['basis']}. Minutes of training until an epoch tests at 75 %."
        )
        tables.append(_table("Augmentation gain", GAIN, gains, [note]))
    finished = []
    for row in measurements.of("time-to-accuracy"):
        views = _percent(row["accuracy_mirror_shift"])
        finished.append({**row, "accuracy_percent": _percent(row["accuracy"]), "views_percent": views})
    if finished:
        tables.append(_table("Time to 94 %", TIME_TO_ACCURACY, finished, [TIME_TO_ACCURACY_NOTE]))
    return tables


def inference_rows(measurements: Measurements) -> list[Row]:
    """Return the rows of inference, each with its file's cold start, by accuracy, then by latency."""
    cold_starts = {_file_key(row): row for row in measurements.of("cold_start")}
    rows = []
    for row in measurements.of("inference"):
        extended = {
            **row,
            "accuracy_percent": _percent(row["accuracy"]),
            "agreement_percent": _percent(row["agreement"]),
            "file_kb": row["file_bytes"] / 1000 if row["file_bytes"] else None,
            "ran_on": _ran_on(row),
        }
        cold_start = cold_starts.get(_file_key(row))
        if cold_start:
            memory = cold_start["memory_bytes"].get(str(row["batch"]))
            extended["cold_start_s"] = cold_start["cold_start_ms"] / 1000
            extended["load_ms"] = cold_start["load_ms"]
            extended["memory_mib"] = memory / 2**20 if memory else None
        rows.append(extended)
    rows.sort(key=lambda row: (-(row["accuracy"] or 0), row["batch"] / row["images_per_second"]))
    return rows


def _ran_on(row: Row) -> str:
    """The provider; of a delegate that runs some of the operations, its share of them too."""
    provider: str = row["provider_actual"]
    name, share = PROVIDERS.get(provider, provider), row.get("delegated_share")
    if not share or share == 1:
        return name
    return f"{name} {math.floor(100 * share)}%"


def training_rows(measurements: Measurements) -> list[Row]:
    """Return the rows of training, each compared with ours and with plain training by the same method."""
    speeds, plain_methods = {}, {}
    for row in measurements.of("training"):
        speeds[row["model"], row["augment"], row["method"]] = row["images_per_second"]
    for method in TRAINING_METHODS.values():
        plain_methods[method.name] = TRAINING_METHODS[method.plain].name if method.plain else method.name
    rows = []
    for row in measurements.of("training"):
        plain_method = plain_methods.get(row["method"], row["method"])
        ours = speeds.get((row["model"], row["augment"], TRAINING_METHODS[OURS].name))
        plain = speeds.get((row["model"], "none", plain_method))
        extended = {**row, "memory_mib": row["memory_bytes"] / 2**20}
        if ours:
            extended["of_ours"] = row["images_per_second"] / ours
        if plain:
            extended["of_plain"] = row["images_per_second"] / plain
        rows.append(extended)
    return rows


def gain_rows(measurements: Measurements) -> list[Row]:
    """Return the rows of augmentation gain, in points."""
    rows = []
    for row in measurements.of("gain"):
        low, high = row["interval"]
        extended = {
            **row,
            "gain_points": 100 * row["difference"],
            "mean_last_epochs_points": 100 * row["mean_last_epochs_difference"],
            "interval_points": f"{100 * low:+.1f} to {100 * high:+.1f}",
            "seed_count": len(row["seeds"]),
        }
        rows.append(extended)
    return rows


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other dominates: as accurate and faster, or as fast and more accurate."""
    known = [row for row in rows if row["accuracy"] is not None]
    front = []
    for row in known:
        if not any(_dominates(other, row) for other in known):
            front.append(row)
    return front


def _dominates(row: Row, other: Row) -> bool:
    if row["accuracy"] < other["accuracy"] or row["images_per_second"] < other["images_per_second"]:
        return False
    return bool(row["accuracy"] > other["accuracy"] or row["images_per_second"] > other["images_per_second"])


def _file_key(row: Row) -> Hashable:
    return row["model"], row["format"], row["threads"]


def _percent(share: float | None) -> float | None:
    """Of a share; None where it is not known, as for an external file without its data."""
    return None if share is None else 100 * share


def _table(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    notes: Sequence[str],
    group: Callable[[Row], Hashable] = lambda _row: None,
) -> Table:
    """Make a table; in each group of rows the best value of a column is marked, unless several rows share it."""
    texts = []
    for row in rows:
        texts.append([column.text(row) for column in columns])
    groups: dict[Hashable, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(group(row), []).append(number)
    for place, column in enumerate(columns):
        for members in groups.values():
            winner = _best_row(column, rows, members)
            if winner is not None:
                texts[winner][place] += BEST
    return Table(title, [column.heading for column in columns], texts, notes)


def _best_row(column: Column, rows: Sequence[Row], members: Sequence[int]) -> int | None:
    """The number of the row among `members` that is best in a column; None if that is not a single one of several."""
    known = [number for number in members if rows[number].get(column.key) is not None]
    if column.best is None or len(known) < 2:
        return None
    best = column.form(column.best([rows[number][column.key] for number in known]))
    winners = [number for number in known if column.text(rows[number]) == best]
    return winners[0] if len(winners) == 1 else None


def _inference_tables(measurements: Measurements) -> list[Table]:
    """A table for each model, number of threads and device; the legend is under the last."""
    by_table: dict[Hashable, list[Row]] = {}
    for row in inference_rows(measurements):
        by_table.setdefault((row["model"], row["threads"], row["device"]), []).append(row)
    tables = []
    for number, rows in enumerate(by_table.values(), start=1):
        first = rows[0]
        title = f"{first['model']} on {first['threads']} thread(s), {first['device'].upper()} ({first['origin']})"
        notes = _inference_notes(rows)
        if number == len(by_table):
            notes.append(INFERENCE_LEGEND)
        tables.append(_table(title, INFERENCE, rows, notes, group=lambda row: row["batch"]))
    return tables


def _inference_notes(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    source = "AS RECORDED in the manifest (so is agree): the data is not on this machine"
    if first["quality"] == "measured":
        source = f"of {first.get('n_test', 0):,} test images, measured here"
    fronts = []
    for batch in sorted({row["batch"] for row in rows}):
        front = pareto_front([row for row in rows if row["batch"] == batch])
        front.sort(key=lambda row: row["images_per_second"])
        fronts.append(f"batch {batch}: {', '.join(row['format'] for row in front)}")
    notes = [f"test %: {source}. Pareto front, accuracy over speed: {'; '.join(fronts)}."]
    unsteady = [f"{row['format']} b{row['batch']}" for row in rows if not row["steady"]]
    if unsteady:
        notes.append(f"Still changing after two seconds of warm-up: {', '.join(unsteady)}.")
    return notes


def _training_notes(measurements: Measurements, rows: Sequence[Row]) -> list[str]:
    threads = rows[0]["threads"]
    notes = [
        f"Median step after warm-up on {threads} threads, 50,000 synthetic images; a peer at the better of its batch "
        "sizes. slowest: step over the median. of plain: of the same method without augmentation (Keras fit for both "
        "of its kinds)."
    ]
    facts = _facts_of_ours(measurements, rows)
    if facts:
        notes.append(f"{TRAINING_METHODS[OURS].name}: {'; '.join(facts)}.")
    for peak_threads, peak in measurements.peaks.items():
        notes.append(f"{peak_threads} thr: {_describe_peak(peak)}.")
    return notes


def _facts_of_ours(measurements: Measurements, rows: Sequence[Row]) -> list[str]:
    """What `cifar train` is measured by: shares of the peak, ratios to its peers, the time to the first step."""
    facts = []
    for row in rows:
        case = f"{row['model']} {row['augment']}"
        if row["method"] == TRAINING_METHODS[OURS].name:
            best = row["peak_fraction"] * row["images_per_second_best"] / row["images_per_second"]
            facts.append(f"{case}: best step {best:.0%} of the peak")
        elif row.get("of_ours"):
            facts.append(f"{case}: {1 / row['of_ours']:.2f} times {row['method']}")
    for row in measurements.of("first-step"):
        facts.append(
            f"{row['model']}: {row['seconds']:.1f} s from process start to the end of the first step, "
            f"{row['import_seconds']:.1f} s of them TensorFlow's import"
        )
    return facts


def _describe_peak(peak: Peak) -> str:
    values = ", ".join([f"{flops / 1e9:,.0f}" for flops in peak.flops])
    description = f"matrix peak {values} GFLOP/s before and after ({peak.library})"
    if not peak.steady:
        description += ": UNSTEADY MACHINE, more than 10 % apart"
    return description
