"""The tables of training: steps of every method, and how much faster `cifar train` is than the others."""

from collections.abc import Iterator, Sequence

from cifar.benchmark.columns import Column, table_of
from cifar.benchmark.measurements import Measurements
from cifar.benchmark.session import Peak, Row
from cifar.benchmark.training_methods import OURS, TRAINING_METHODS
from cifar.report.table import Table

STEPS = (
    Column("network", "model"),
    Column("augment", "augment"),
    Column("precision", "precision"),
    Column("method", "method"),
    Column("batch>", "batch"),
    Column("img/s>", "images_per_second", "{:,.0f}".format),
    Column("slowest>", "slowest_over_median", "{:.1f}".format),
    Column("peak>", "peak_fraction", "{:.0%}".format),
    Column("MiB>", "memory_mib", "{:,.0f}".format),
    Column("rounds>", "rounds"),
)
RATIOS = (
    Column("network", "model"),
    Column("augment", "augment"),
    Column("precision", "precision"),
    Column("over", "method"),
    Column("in", "other_precision"),
    Column("ratio>", "ratio", "{:.2f}".format),
    Column("of rounds>", "of_rounds"),
)
LACKING: Row = {"precision": "float32", "tried": {}, "rounds": [], "images_per_second_rounds": []}
"""What rows of older results lack."""
NAME_OF_OURS = TRAINING_METHODS[OURS].name


def training_tables(measurements: Measurements) -> list[Table]:
    """Return the table of steps and that of ratios; none without rows of training."""
    rows = [{**LACKING, **row} for row in measurements.of("training")]
    if not rows:
        return []
    tables = [table_of("Training steps", STEPS, list(map(_extended, rows)), _notes(measurements, rows))]
    ratios = ratio_rows(rows)
    if ratios:
        note = (
            "ratio: of the medians of all steps; of rounds: the lowest and the highest of any round. itself, none: "
            "cifar train without augmentation."
        )
        tables.append(table_of("How much faster cifar train is", RATIOS, ratios, [note]))
    return tables


def ratio_rows(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each speed of ours over that of a peer, and over that of our plain training."""
    ratios = []
    for row in rows:
        if row["method"] == NAME_OF_OURS:
            for other in _compared_with(row, rows):
                ratios.append(_ratio(row, other))
    return ratios


def _compared_with(ours: Row, rows: Sequence[Row]) -> Iterator[Row]:
    """Peers on the same work, in the same precision or in float32; and our training without augmentation."""
    for row in rows:
        if row["model"] != ours["model"]:
            continue
        is_peer = row["method"] != NAME_OF_OURS
        if is_peer and row["augment"] == ours["augment"] and row["precision"] in ("float32", ours["precision"]):
            yield row
        if not is_peer and row["augment"] == "none" != ours["augment"] and row["precision"] == ours["precision"]:
            yield row


def _ratio(ours: Row, other: Row) -> Row:
    pairs = zip(ours["images_per_second_rounds"], other["images_per_second_rounds"], strict=False)
    of_rounds = [speed / other_speed for speed, other_speed in pairs]
    return {
        "model": ours["model"],
        "augment": ours["augment"],
        "precision": ours["precision"],
        "method": other["method"] if other["method"] != NAME_OF_OURS else "itself, none",
        "other_precision": other["precision"],
        "ratio": ours["images_per_second"] / other["images_per_second"],
        "of_rounds": f"{min(of_rounds):.2f} to {max(of_rounds):.2f}" if of_rounds else None,
    }


def _extended(row: Row) -> Row:
    rounds = ", ".join(map(str, row["rounds"])) or None
    return {**row, "memory_mib": row["memory_bytes"] / 2**20, "rounds": rounds}


def _notes(measurements: Measurements, rows: Sequence[Row]) -> list[str]:
    batch = (
        "a peer at the fastest of its batch sizes" if any(row["tried"] for row in rows) else "peers at our batch size"
    )
    notes = [
        f"Median of steps after warm-up on {rows[0]['threads']} threads, 50,000 synthetic images; {batch}. slowest: "
        "step over the median. peak: share of a matrix product in this precision. rounds: steps timed in each; fewer "
        "where they take long, and fewer rounds where time is short (-k training has more of it)."
    ]
    for row in measurements.of("first-step"):
        notes.append(
            f"cifar train, {row['model']}: {row['seconds']:.1f} s from process start to the end of the first step, "
            f"{row['import_seconds']:.1f} s of them TensorFlow's import."
        )
    for (threads, precision), peak in measurements.peaks.items():
        notes.append(f"{threads} thr, {precision}: {_describe_peak(peak)}.")
    return notes


def _describe_peak(peak: Peak) -> str:
    values = ", ".join([f"{flops / 1e9:,.0f}" for flops in peak.flops])
    description = f"matrix peak {values} GFLOP/s before and after ({peak.library})"
    if not peak.steady:
        description += ": UNSTEADY MACHINE, more than 10 % apart"
    return description
