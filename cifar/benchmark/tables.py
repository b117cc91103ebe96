"""The rows of a session as tables: which columns, in which order, the best marked, and what must be said of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cifar.benchmark.session import Peak, Row
from cifar.benchmark.training_methods import OURS, TRAINING_METHODS

BEST = "*"


@dataclass(frozen=True)
class Column:
    """A column: its heading, the row's key, how a value is printed, and which is best (max, min or neither)."""

    heading: str
    key: str
    form: Callable[[Any], str] = str
    best: Callable[[list[Any]], Any] | None = None
    right: bool = True

    def text(self, row: Row) -> str:
        """A row's value as printed; a dash where there is none."""
        value = row.get(self.key)
        return "-" if value is None else self.form(value)


@dataclass(frozen=True)
class Result:
    """What a session measured.

    Attributes:
        rows: the extra_info of every benchmark.
        missing: (case, `failed` or `skipped`, reason).
        peaks: the matrix peak by number of threads.
    """

    rows: list[Row]
    missing: list[tuple[str, str, str]]
    peaks: dict[int, Peak]

    def of(self, kind: str) -> list[Row]:
        """The rows of a kind."""
        return [row for row in self.rows if row["kind"] == kind]


def _short(milliseconds: float) -> str:
    """Milliseconds in five characters."""
    digits = next((digits for limit, digits in ((10, 3), (100, 2), (1000, 1)) if milliseconds < limit), 0)
    return f"{milliseconds:.{digits}f}"


def _tenths(percent: float) -> str:
    """A percentage rounded down: 100.0 is all of them."""
    return f"{math.floor(round(10 * percent, 6)) / 10:.1f}"


INFERENCE = (
    Column("format", "format", right=False),
    Column("b", "batch"),
    Column("test %", "accuracy_percent", "{:.2f}".format, max),
    Column("agree", "agreement_percent", _tenths, max),
    Column("p50", "p50_ms", _short, min),
    Column("p90", "p90_ms", _short, min),
    Column("p99", "p99_ms", _short, min),
    Column("img/s", "images_per_second", "{:,.0f}".format, max),
    Column("peak", "peak_fraction", "{:.0%}".format),
    Column("start", "start_s", "{:.2f}".format, min),
    Column("load", "load_ms", _short, min),
    Column("MiB", "memory_mib", "{:.0f}".format, min),
    Column("kB", "file_kb", "{:.0f}".format, min),
    Column("ran on", "ran_on", right=False),
)
LEGEND = (
    f"b: batch size, {BEST} the best for it. agree: % with the Keras model's class, rounded down. p50, p90, p99 "
    "(from 64, 130, 662 samples on) and load: ms. peak: share of a float32 matrix product at these threads. start: "
    "s from process start to first answer. MiB: peak memory of a process that loads the file and answers."
)
TRAINING = (
    Column("network", "model", right=False),
    Column("augment", "augment", right=False),
    Column("way", "way", right=False),
    Column("batch", "batch"),
    Column("img/s", "images_per_second", "{:,.0f}".format),
    Column("of ours", "of_ours", "{:.2f}".format),
    Column("of plain", "of_plain", "{:.2f}".format),
    Column("slowest", "slowest_over_median", "{:.1f}".format),
    Column("peak", "peak_fraction", "{:.0%}".format),
    Column("MiB", "memory_mib", "{:,.0f}".format),
)
AUGMENTATION = (
    Column("policy", "augment", right=False),
    Column("batch", "batch"),
    Column("thr", "threads"),
    Column("img/s", "images_per_second", "{:,.0f}".format, max),
)
GAIN = (
    Column("network", "model", right=False),
    Column("augment", "augment", right=False),
    Column("plain", "plain", "{:.1%}".format),
    Column("augm.", "augmented", "{:.1%}".format),
    Column("gain", "gain_points", "{:+.1f}".format),
    Column("95 %", "interval_points"),
    Column("last 5", "late_points", "{:+.1f}".format),
    Column("seeds", "seed_count"),
    Column("min to 75 %", "minutes_to_75_plain", "{:.1f}".format),
    Column("augm.", "minutes_to_75_augmented", "{:.1f}".format),
)
RAN_ON = {"CPUExecutionProvider": "CPU EP", "CUDAExecutionProvider": "CUDA EP", "CPU": "TF CPU", "GPU": "TF GPU"}


def inference_rows(result: Result) -> list[Row]:
    """The rows of inference, each with its file's cold start, by accuracy, then by latency."""
    starts = {(row["model"], row["format"], row["threads"]): row for row in result.of("start")}
    shown = []
    for row in result.of("inference"):
        start = starts.get((row["model"], row["format"], row["threads"]), {})
        memory = start.get("memory_bytes", {}).get(str(row["batch"]))
        shown.append(
            {
                **row,
                "accuracy_percent": _percent(row["accuracy"]),
                "agreement_percent": _percent(row["agreement"]),
                "start_s": start["start_ms"] / 1000 if start else None,
                "load_ms": start.get("load_ms"),
                "memory_mib": memory / 2**20 if memory else None,
                "file_kb": row["file_bytes"] / 1000 if row["file_bytes"] else None,
                "ran_on": RAN_ON.get(row["provider_actual"], row["provider_actual"]),
            }
        )
    shown.sort(key=lambda row: (-(row["accuracy"] or 0), row["batch"] / row["images_per_second"]))
    return shown


def _percent(share: float | None) -> float | None:
    """Of a share; None where nobody knows it: a file of others where its data is not."""
    return None if share is None else 100 * share


def training_rows(result: Result) -> list[Row]:
    """The rows of training, each set against our loop and against plain training the same way."""
    rows = result.of("training")
    speed = {(row["model"], row["augment"], row["way"]): row["images_per_second"] for row in rows}
    plain_way = {way.name: TRAINING_METHODS[way.plain].name for way in TRAINING_METHODS.values() if way.plain}
    shown = []
    for row in rows:
        ours = speed.get((row["model"], row["augment"], TRAINING_METHODS[OURS].name))
        plain = speed.get((row["model"], "none", plain_way.get(row["way"], row["way"])))
        shown.append(
            {
                **row,
                "of_ours": row["images_per_second"] / ours if ours else None,
                "of_plain": row["images_per_second"] / plain if plain else None,
                "memory_mib": row["memory_bytes"] / 2**20,
            }
        )
    return shown


def gain_rows(result: Result) -> list[Row]:
    """The rows of augmentation gain, in points."""
    return [
        {
            **row,
            "gain_points": 100 * row["difference"],
            "late_points": 100 * row["mean_last_epochs_difference"],
            "interval_points": f"{100 * row['interval'][0]:+.1f} to {100 * row['interval'][1]:+.1f}",
            "seed_count": len(row["seeds"]),
        }
        for row in result.of("gain")
    ]


def pareto(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats: as accurate and faster, or as fast and more accurate."""

    def beats(a: Row, b: Row) -> bool:
        as_good = a["accuracy"] >= b["accuracy"] and a["images_per_second"] >= b["images_per_second"]
        return as_good and (a["accuracy"], a["images_per_second"]) != (b["accuracy"], b["images_per_second"])

    known = [row for row in rows if row["accuracy"] is not None]
    return [row for row in known if not any(beats(other, row) for other in known)]


def _cells(columns: Sequence[Column], rows: Sequence[Row], groups: Sequence[list[Row]]) -> list[list[str]]:
    """The rows in print; in each group the best of each column marked, unless it is shared."""
    lines = {id(row): [column.text(row) for column in columns] for row in rows}
    for group in groups:
        for number, column in enumerate(columns):
            values = [row[column.key] for row in group if row.get(column.key) is not None]
            best = column.form(column.best(values)) if column.best and len(values) > 1 else None
            holders = [lines[id(row)] for row in group if lines[id(row)][number] == best]
            if len(holders) == 1:
                holders[0][number] += BEST
    return list(lines.values())


@dataclass(frozen=True)
class Section:
    """A table and what must be said of it."""

    title: str
    columns: Sequence[Column]
    cells: list[list[str]]
    notes: list[str]


def sections(result: Result) -> list[Section]:
    """Everything that is printed, in order."""
    tables: dict[tuple[Any, ...], list[Row]] = {}
    for row in inference_rows(result):
        tables.setdefault((row["model"], row["threads"], row["device"]), []).append(row)
    made = [_inference_section(rows) for rows in tables.values()]
    if made:
        made[-1].notes.append(LEGEND)
    if training := training_rows(result):
        made.append(
            Section("Training steps", TRAINING, _cells(TRAINING, training, [training]), _training_notes(result))
        )
    if augmentation := result.of("augmentation"):
        cells = _cells(AUGMENTATION, augmentation, [augmentation])
        made.append(
            Section("Augmentation alone", AUGMENTATION, cells, ["One thread, batches made ahead of training."])
        )
    if gains := gain_rows(result):
        notes = [
            "gain: points of test accuracy after the last epoch; last 5: of the means over the last five epochs. "
            f"95 %: {gains[0]['basis']}. Minutes of training until an epoch tests at 75 %."
        ]
        made.append(Section("What augmentation buys", GAIN, _cells(GAIN, gains, [gains]), notes))
    return made


def _inference_section(rows: list[Row]) -> Section:
    """The table of one model, on one device, with one number of threads."""
    first = rows[0]
    groups = [[row for row in rows if row["batch"] == batch] for batch in sorted({row["batch"] for row in rows})]
    fronts = []
    for group in groups:
        front = sorted(pareto(group), key=lambda row: row["images_per_second"])
        fronts.append(f"batch {group[0]['batch']}: {', '.join(row['format'] for row in front)}")
    measured = f"of {first.get('n_test', 0):,} test images, measured here"
    recorded = "AS RECORDED in the manifest (so is agree): the data is not on this machine"
    notes = [
        f"test %: {measured if first['quality'] == 'measured' else recorded}. "
        f"Pareto front, accuracy over speed: {'; '.join(fronts)}.",
    ]
    if not all(row["steady"] for row in rows):
        unsteady = ", ".join(f"{row['format']} b{row['batch']}" for row in rows if not row["steady"])
        notes.append(f"Still changing after two seconds of warm-up: {unsteady}.")
    title = f"{first['model']} on {first['threads']} thread(s), {first['device'].upper()} ({first['origin']})"
    return Section(title, INFERENCE, _cells(INFERENCE, rows, groups), notes)


def _targets(result: Result) -> list[str]:
    """What our way to train is held to, of each network: shares of the peak, ratios, waits."""
    said = []
    for row in training_rows(result):
        if row["way"] == TRAINING_METHODS[OURS].name:
            best = row["peak_fraction"] * row["images_per_second_best"] / row["images_per_second"]
            said.append(f"{row['model']} {row['augment']}: best step {best:.0%} of the peak")
        elif row["of_ours"]:
            said.append(f"{row['model']} {row['augment']}: {1 / row['of_ours']:.2f} times {row['way']}")
    said += [
        f"{row['model']}: {row['seconds']:.1f} s from process start to the end of the first step, "
        f"{row['import_seconds']:.1f} s of them TensorFlow's import"
        for row in result.of("first-step")
    ]
    return [f"{TRAINING_METHODS[OURS].name}: {'; '.join(said)}."] if said else []


def _training_notes(result: Result) -> list[str]:
    threads = result.of("training")[0]["threads"]
    notes = [
        f"Median step after warm-up on {threads} threads, 50,000 synthetic images; a peer at the better of its batch "
        "sizes. slowest: step over the median. of plain: of the same way without augmentation (Keras fit for both of "
        "its kinds)."
    ]
    notes += _targets(result)
    notes += [f"{threads} thr: {_peak_in_words(peak)}." for threads, peak in result.peaks.items()]
    return notes


def _peak_in_words(peak: Peak) -> str:
    found = ", ".join(f"{flops / 1e9:,.0f}" for flops in peak.flops)
    unsteady = "" if peak.steady else ": UNSTEADY MACHINE, more than 10 % apart"
    return f"matrix peak {found} GFLOP/s before and after ({peak.product}){unsteady}"
