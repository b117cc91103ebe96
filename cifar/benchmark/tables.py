"""The tables of a session: which columns, in which order, and notes."""

import math
from collections.abc import Hashable, Sequence

from cifar.benchmark.columns import BEST, Column, table_of
from cifar.benchmark.measurements import Measurements
from cifar.benchmark.session import Row
from cifar.benchmark.training_tables import training_tables
from cifar.formats import FORMATS
from cifar.report.table import Table

PROVIDERS = {
    "CPUExecutionProvider": "CPU EP",
    "CUDAExecutionProvider": "CUDA EP",
    "CPU": "TF CPU",
    "GPU": "TF GPU",
    "OpenVINO, float32": "OpenVINO f32",
    "OpenVINO, bfloat16": "OpenVINO bf16",
    "OpenVINO C, float32": "OpenVINO C f32",
}
"""Providers with a shorter name in tables."""


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
    Column("format<", "format"),
    Column("ran on", "ran_on"),
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
)
EXPENDABLE = ("peak>", "load>", "p90>", "MiB>", "cold>", "kB>")
"""Columns of inference that a narrow terminal leaves out, the first of them first."""
INFERENCE_LEGEND = (
    f"b: batch size, {BEST} the best for it. agree: % with the Keras model's class, rounded down. p50, p90, p99: "
    "sample percentiles (from 64, 130, 662 samples on), ms. load: ms. peak: share of a float32 matrix product at "
    "these threads. cold: s from process start to the first prediction. MiB: peak memory of a process that loads the "
    "file and predicts. These three are of the first model alone, unless --full measures all. ran on: with the share "
    "of the file's operations, where a delegate runs some of them."
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
    Column("min>", "minutes", "{:.1f}".format),
    Column("test %>", "accuracy_percent", "{:.2f}".format, max),
    Column("views %>", "views_percent", "{:.2f}".format, max),
    Column("min to 94 %>", "minutes_to_94", "{:.1f}".format, min),
    Column("views>", "minutes_to_94_mirror_shift", "{:.1f}".format, min),
)
TIME_TO_ACCURACY_NOTE = (
    "min: minutes of training, without scoring, as the run recorded them; to 94 %: until an epoch tests at 94 %. "
    "views: with test-time augmentation (mirror-shift) after the last epoch."
)

REPORT_PAGE = (
    Column("runs>", "runs"),
    Column("MB>", "megabytes", "{:.1f}".format),
    Column("s to write>", "seconds_to_write", "{:.1f}".format),
    Column("s to open>", "seconds_to_open", "{:.2f}".format),
    Column("browser", "browser"),
)


def all_tables(measurements: Measurements) -> list[Table]:
    """Return everything that is printed, in order."""
    tables = _inference_tables(measurements)
    tables += training_tables(measurements)
    augmentation = measurements.of("augmentation")
    if augmentation:
        notes = ["One thread, batches made ahead of training."]
        tables.append(table_of("Augmentation alone", AUGMENTATION, augmentation, notes))
    gains = gain_rows(measurements)
    if gains:
        note = (
            "gain: points of test accuracy after the last epoch; last 5: of the means over the last five epochs. "
            f"95 %: {gains[0]['basis']}. Minutes of training until an epoch tests at 75 %."
        )
        tables.append(table_of("Augmentation gain", GAIN, gains, [note]))
    finished = []
    for row in measurements.of("time-to-accuracy"):
        views = _percent(row["accuracy_mirror_shift"])
        finished.append({**row, "accuracy_percent": _percent(row["accuracy"]), "views_percent": views})
    if finished:
        notes = [TIME_TO_ACCURACY_NOTE]
        for row in finished:
            reason = f"; views: {row['without_views']}" if row["without_views"] else ""
            trained_on = f"{row['threads']} threads of {row['trained_on']}"
            notes.append(f"{row['model']} seed {row['seed']}: trained on {trained_on}{reason}.")
        tables.append(table_of("Time to 94 %", TIME_TO_ACCURACY, finished, notes))
    pages = [{**row, "megabytes": row["file_bytes"] / 1e6} for row in measurements.of("report-page")]
    if pages:
        notes = ["s to open: median of five new windows, until the tables and galleries are drawn."]
        tables.append(table_of("The report as a page", REPORT_PAGE, pages, notes))
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
            "label": _label(row),
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


def is_in_own_runtime(row: Row) -> bool:
    """Whether a row of inference is of its format's own runtime, or of the Keras model."""
    return row["format"] not in FORMATS or FORMATS[row["format"]].runtime == row["runtime"]


def _label(row: Row) -> str:
    """The format; in another runtime than its own that too."""
    return row["format"] if is_in_own_runtime(row) else f"{row['format']} ({row['runtime']})"


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
    return row["model"], row["format"], row["runtime"], row["threads"]


def _percent(share: float | None) -> float | None:
    """Of a share; None where it is not known, as for an external file without its data."""
    return None if share is None else 100 * share


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
        tables.append(table_of(title, INFERENCE, rows, notes, group=lambda row: row["batch"]))
    return tables


def _inference_notes(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    source = f"AS RECORDED in the manifest (so is agree): {first.get('not_measured')}"
    measured = [row for row in rows if row["quality"] == "measured"]
    if measured:
        source = f"of {measured[0]['n_test']:,} test images, measured here"
    if 0 < len(measured) < len(rows):
        source += "; in further runtimes AS `cifar parity` kept it beside the file"
    fronts = []
    for batch in sorted({row["batch"] for row in rows}):
        front = pareto_front([row for row in rows if row["batch"] == batch])
        front.sort(key=lambda row: row["images_per_second"])
        fronts.append(f"batch {batch}: {', '.join(row['label'] for row in front)}")
    notes = [f"test %: {source}. Pareto front, accuracy over speed: {'; '.join(fronts)}."]
    unsteady = [f"{row['label']} b{row['batch']}" for row in rows if not row["steady"]]
    if unsteady:
        notes.append(f"Still changing after two seconds of warm-up: {', '.join(unsteady)}.")
    return notes
