"""What is committed holds: the reference results, the tables of the documents, the released models."""

import json
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy
from conftest import ROOT
from numpy.typing import NDArray
from PIL import Image

from cifar import __version__
from cifar.analysis import summary
from cifar.analysis.comparisons import between_precisions
from cifar.analysis.finished_run import FinishedRun
from cifar.benchmark import report as bench_report
from cifar.benchmark.measurements import Measurements
from cifar.benchmark.models import released_models
from cifar.data import dataset
from cifar.errors import NotFoundError
from cifar.formats import FLOAT32_FORMATS, FORMATS, manifest
from cifar.formats.manifest import ManifestEntry
from cifar.inference import runtime_parity
from cifar.inference.runtime_parity import FileParity, Pair
from cifar.inference.runtimes import ONNX_FORMATS, RUNTIMES, TFLITE_FORMATS, load_session
from cifar.metrics import classification, statistics
from cifar.metrics.classification import Probabilities
from cifar.networks import PUBLISHED
from cifar.recipes import read, recipe
from cifar.report import card, detail_tables, figure_files, numbers, table
from cifar.runs.run import Run, runs_in
from cifar.system import files

BASELINES = ROOT / "bench" / "baselines"
EXPORTS = ROOT / "exports"
RECIPES_FOLDER = ROOT / "bench" / "recipes"
RESULTS = ROOT / "docs" / "results.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNS = {run.path.name: run for run in runs_in(BASELINES)}
RECIPE_RUNS = [run for run in RUNS.values() if run.recipe.recipe != "published"]
ENTRIES = manifest.read(EXPORTS)
RELEASED = (  # runs whose models are released, as exports/README.md lists them
    *[f"{network}-tuned-bfloat16-shift-flip-s0" for network in PUBLISHED],
    "resnet8-bfloat16-pad-crop-alternating-flip-s0",
    "airbench94-bfloat16-pad-crop-alternating-flip-s0",
)
ENTRIES_0_1 = manifest.read(ROOT / "bench" / "history" / "exports" / "0.1.0")
WHY = json.loads((BASELINES / "why.json").read_text())["runs"]
N_IMAGES = 1000  # of the test set, on which a released file is run again here

Row = dict[str, str]
Images = NDArray[np.uint8]


@cache
def whole() -> summary.Summary:
    return summary.summarise(list(RUNS.values()))


def tables_in(text: str) -> list[list[Row]]:
    """The Markdown tables of a text, rows by column; of two columns of one name the second is 'name 2'."""
    tables = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines())
        names = [f"{name} {head[:i].count(name) + 1}" if name in head[:i] else name for i, name in enumerate(head)]
        tables.append([dict(zip(names, row, strict=True)) for row in rows])
    return tables


def marked_tables() -> dict[str, list[Row]]:
    """The documents' tables of results: those below a comment such as <!-- accuracy -->, by that name."""
    marked = {}
    for document in DOCUMENTS:
        for name, rest in re.findall(r"^<!-- (\w+) -->\n((?:\|.*\|\n)+)", document.read_text(), flags=re.MULTILINE):
            assert name not in marked, f"two tables are named {name}"
            (marked[name],) = tables_in(rest)
    return marked


def committed_tables() -> list[list[Row]]:
    """All tables that the committed results give."""
    measured = json.loads((ROOT / "bench" / "history" / f"{__version__}.json").read_text())
    text = table.markdown(detail_tables.markdown_tables(whole(), "confident"))
    return tables_in(text) + tables_in(bench_report.markdown(Measurements(measured["rows"], [], {})))


@pytest.mark.parametrize("name", sorted(name for name in marked_tables() if not name.startswith("parity_")))
def test_every_figure_of_a_marked_table_is_in_the_committed_results(name: str) -> None:
    rows = marked_tables()[name]
    columns = rows[0].keys()
    sources = [source for source in committed_tables() if columns <= source[0].keys()]
    assert sources, f"no table has the columns {list(columns)}"
    committed = []
    for source in sources:
        committed += [{column: row[column] for column in columns} for row in source]
    for row in rows:
        assert row in committed, row


def test_every_table_of_results_is_marked() -> None:
    text = RESULTS.read_text()
    unmarked = re.sub(r"^<!-- \w+ -->\n(?:\|.*\|\n)+", "", text, flags=re.MULTILINE)
    assert tables_in(unmarked) == []
    assert len(tables_in(text)) >= 6
    readme = DOCUMENTS[0].read_text().partition("\n## Results\n")[2].partition("\n## ")[0]
    assert tables_in(readme) == [marked_tables()["results"]]


def test_the_documents_show_every_network_with_and_without_augmentation() -> None:
    shown = {(re.split("[ -]", row["network"])[0], row["augment"]) for row in marked_tables()["accuracy"]}
    assert shown >= {(network, augment) for network in PUBLISHED for augment in ("none", "shift-flip")}


def test_the_readme_shows_every_recipe() -> None:
    shown = " ".join(row["network"] for row in marked_tables()["results"])
    assert [name for name in ("tuned", "resnet8", "airbench94") if name not in shown] == []


@pytest.mark.parametrize("name", RUNS)
def test_a_reference_run_is_whole_and_has_the_recipe_that_it_names(name: str) -> None:
    result = FinishedRun(RUNS[name])  # raises unless its files belong together
    trained = result.run.recipe
    fields = {"precision": trained.precision}
    policy, file = trained.policy.name, read(trained.recipe)
    reference = recipe(
        trained.network, policy, seed=trained.seed, profile="reference", dataset="cifar10", file=file, fields=fields
    )
    assert trained == reference
    assert result.metrics.n_train == dataset.TRAIN
    assert result.metrics.n_test == dataset.TEST
    assert {entry.format for entry in result.exports} == set(FORMATS)


def test_the_table_of_the_recipes_holds_what_their_runs_recorded() -> None:
    *_, shown = tables_in((BASELINES / "README.md").read_text())
    expected = []
    for run in RECIPE_RUNS:
        metrics = run.metrics
        files = {entry.format: f"{100 * entry.accuracy:.2f}" for entry in FinishedRun(run).exports}
        views = run.path / "mirror-shift.json"
        scores = json.loads(views.read_text()) if views.exists() else None
        if scores:
            assert scores["weights_sha256"] == metrics.weights_sha256
            views_percent = f"{100 * scores['test_time_augmentation']['accuracy']:.2f}"
        row = {
            "run": f"`{run.path.name}`",
            "epochs": str(metrics.epochs),
            "minutes": f"{metrics.train_seconds / 60:.1f}",
            "test %": f"{100 * metrics.accuracy:.2f}",
            "views %": views_percent if scores else "-",
            "onnx-int8 %": files["onnx-int8"],
            "tflite-int8 %": files["tflite-int8"],
        }
        expected.append(row)
    assert shown == expected


def kept_parity(entry: ManifestEntry) -> FileParity:
    kept = runtime_parity.read(EXPORTS / entry.file)
    assert kept is not None
    assert (kept.sha256, kept.images, kept.data_sha256) == (entry.sha256, dataset.TEST, entry.data_sha256)
    return kept


@pytest.mark.parametrize(("name", "formats"), [("parity_onnx", ONNX_FORMATS), ("parity_tflite", TFLITE_FORMATS)])
def test_the_tables_of_other_runtimes_hold_what_was_kept_beside_the_released_files(
    name: str, formats: Sequence[str]
) -> None:
    readers = {runtime for runtime, row in RUNTIMES.items() if set(formats) & set(row.formats)}
    shown = marked_tables()[name]
    assert {*shown[0]} - {"model", "format"} == readers - {FORMATS[formats[0]].runtime}
    expected = []
    for entry in ENTRIES:
        if entry.format not in formats:
            continue
        kept = kept_parity(entry)
        own = FORMATS[entry.format].runtime
        flips = {pair.second: str(len(pair.flips)) for pair in kept.pairs if pair.first == own}
        row = {"model": entry.network, "format": entry.format}
        for runtime in list(shown[0])[2:]:
            row[runtime] = flips.get(runtime, "fails" if runtime in kept.failed else "-")
        expected.append(row)
    assert shown == expected


def test_no_class_changes_in_float32_and_the_figures_of_the_text_are_those_that_were_kept() -> None:
    float32: list[Pair] = []
    webs: list[Pair] = []
    for entry in ENTRIES:
        if entry.format != "saved-model":
            pairs = kept_parity(entry).pairs
            float32 += [pair for pair in pairs if pair.is_float32]
            own = FORMATS[entry.format].runtime
            webs += [pair for pair in pairs if pair.first == own and ("web" in pair.second or "js" in pair.second)]
    assert sum(len(pair.flips) for pair in float32) == 0
    text = " ".join((ROOT / "docs" / "formats.md").read_text().split())
    largest = max(pair.max_difference for pair in float32)
    assert f"probabilities differ by at most {largest:.0e}".replace("e-0", "e-") in text
    changed = sum(len(pair.flips) for pair in webs)
    assert f"{changed} classes change in {len(webs)} comparisons" in text


def test_the_table_of_arenas_holds_what_was_kept() -> None:
    expected = []
    for entry in ENTRIES:
        if entry.format == "tflite-int8" and "tflite-micro" in kept_parity(entry).ran:
            details = kept_parity(entry).ran["tflite-micro"].details
            row = {
                "model": entry.network,
                "arena, bytes": f"{details['arena_bytes']:,}",
                "file, bytes": f"{entry.bytes:,}",
                "operations": str(details["operations"]),
            }
            expected.append(row)
    assert marked_tables()["parity_micro"] == expected


def test_the_table_of_the_choice_of_recipes_holds_what_held_out_images_said() -> None:
    shown, *_ = tables_in((RECIPES_FOLDER / "README.md").read_text())
    expected = []
    for run in runs_in(RECIPES_FOLDER / "tuning"):
        chosen = run.recipe
        assert (chosen.hold_out, run.metrics.hold_out, run.metrics.n_train) == (5000, 5000, 45_000)
        row = {
            "run": f"`{chosen.recipe}`",
            "network": chosen.network,
            "augment": chosen.policy.name,
            "optimizer": chosen.optimizer,
            "batch": str(chosen.batch_size),
            "rate": f"{chosen.learning_rate:g}",
            "warm-up": f"{chosen.warmup:g}",
            "epochs": str(chosen.epochs),
            "held-out %": f"{100 * run.metrics.accuracy:.1f}",
        }
        expected.append(row)
    assert sorted(shown, key=str) == sorted(expected, key=str)


def test_the_table_of_precisions_holds_what_the_pairs_recorded() -> None:
    text = (RECIPES_FOLDER / "README.md").read_text()
    _, shown = tables_in(text)
    accuracies: dict[str, dict[int, float]] = {"float32": {}, "bfloat16": {}}
    for run in runs_in(RECIPES_FOLDER / "precision"):
        assert run.recipe == recipe(
            "first",
            "shift-flip",
            seed=run.recipe.seed,
            file=read("quick"),
            profile="reference",
            fields={"precision": run.recipe.precision},
        )
        accuracies[run.recipe.precision][run.recipe.seed] = 100 * run.metrics.accuracy
    expected, differences = [], []
    for seed, float32 in sorted(accuracies["float32"].items()):
        bfloat16 = accuracies["bfloat16"].pop(seed)
        differences.append(bfloat16 - float32)
        cells = f"{float32:.2f}", f"{bfloat16:.2f}", f"{bfloat16 - float32:+.2f}"
        expected.append([str(seed), *cells])
    assert [list(row.values()) for row in shown] == expected
    assert not accuracies["bfloat16"]
    found = statistics.mean(differences)
    assert found.interval is not None
    low, high = found.interval
    assert f"{found.mean:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}" in " ".join(text.split())


def test_the_readme_says_what_the_recipes_reached() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    gains = [_gain_of_tuned(network) for network in PUBLISHED]
    for document in (text, " ".join(RESULTS.read_text().split())):
        assert f"gain {min(gains):.0f} to {max(gains):.0f} points" in document.replace("gains", "gain")
    airbench94_run = Run(RECIPES_FOLDER / "timed" / "airbench94-bfloat16-pad-crop-alternating-flip-s0")
    airbench94 = airbench94_run.metrics
    minutes = airbench94.train_seconds / 60
    assert f"`airbench94` elsewhere: {100 * airbench94.accuracy:.0f} % in {minutes:.0f} minutes" in text
    of_recipes = " ".join((RECIPES_FOLDER / "README.md").read_text().split())
    views = json.loads((airbench94_run.path / "mirror-shift.json").read_text())["test_time_augmentation"]["accuracy"]
    assert f"{minutes:.1f} minutes, {100 * airbench94.accuracy:.2f} %, {100 * views:.2f} % with views" in of_recipes


def test_what_bfloat16_costs_is_what_the_pairs_say() -> None:
    (of_first,) = [row for row in between_precisions(whole().groups) if row.network == "first-tuned"]
    assert of_first.is_equivalent
    change, interval = numbers.points(of_first.change.mean), numbers.points_span(of_first.change.interval)
    assert f"in training: {change} points, 95 % {interval} (`first`, five seeds)" in RESULTS.read_text()


def test_the_gains_beside_the_tutorials_are_those_of_the_reference_runs() -> None:
    """docs/published-text.md: the one pair of the tutorial, and ours at both batch sizes."""
    gains = {row["network"]: row for row in marked_tables()["gains"]}
    at_128, at_256 = gains["first"], gains["first-published-256-bfloat16"]
    prose = " ".join((ROOT / "docs" / "published-text.md").read_text().split())
    assert (
        f"three pairs gain {at_256['gain']} points at its batch size of 256 (95 % {at_256['95 %']}), "
        f"and {at_128['gain']} at 128 ({at_128['95 %']})"
    ) in prose
    assert at_128["seeds"] == at_256["seeds"] == "3"


def _gain_of_tuned(network: str) -> float:
    """Points of mean test accuracy that `tuned` gains over `published`, with shift-flip."""
    accuracies: dict[str, list[float]] = {"published": [], "tuned": []}
    for run in RUNS.values():
        trained = run.recipe
        is_counted = trained.recipe == "published" or (trained.recipe, trained.precision) == ("tuned", "bfloat16")
        if trained.network == network and trained.policy.name == "shift-flip" and is_counted:
            accuracies[trained.recipe].append(100 * run.metrics.accuracy)
    return float(np.mean(accuracies["tuned"]) - np.mean(accuracies["published"]))


CHOSEN = {
    "tuned": ("first-tuned-holdout5000-shift-flip-s0", {"epochs"}),
    "quick": ("first-qd-bfloat16-holdout5000-shift-flip-s0", {"epochs"}),
    "resnet8": ("resnet8-r-crop-bfloat16-holdout5000-pad-crop-alternating-flip-s0", set()),  # tried for 16 epochs
}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_recipe_is_the_one_that_was_chosen(name: str) -> None:
    folder, also = CHOSEN[name]
    chosen = Run(RECIPES_FOLDER / "tuning" / folder).recipe
    assert chosen.policy.name in read(name).augment
    now = recipe(chosen.network, chosen.policy.name, file=read(name), profile="reference")
    same = {"batch_size", "learning_rate", "warmup", "schedule", "optimizer", "weight_decay", *also}
    assert now.model_dump(include=same) == chosen.model_dump(include=same)


def test_no_image_and_no_model_is_among_the_committed_runs() -> None:
    names = set()
    for path in (*BASELINES.rglob("*"), *RECIPES_FOLDER.rglob("*")):
        if path.is_file() and not {"figures", "__pycache__"} & set(path.parts):
            names.add(path.name)
    assert names <= {
        *("recipe.json", "environment.json", "metrics.json", "history.jsonl", "timing.jsonl", "predictions.npz"),
        *("verify.jsonl", "manifest.json", "quality.json", "README.md", "curves.png", ".lock", "why.py", "why.json"),
        *("gate.json", "epoch_times.json", "epoch_times.py"),
        "mirror-shift.json",
    }


def test_the_picture_of_the_curves_is_drawn_from_these_histories() -> None:
    paired = [group for group in whole().groups if group.pairs]
    with Image.open(BASELINES / "curves.png") as picture:
        assert picture.info["histories"] == figure_files.histories(paired)


def test_the_explanations_say_what_why_json_and_the_histories_hold() -> None:
    """bench/baselines/README.md: its tables whole, and the figures of its sentences, to the digit shown."""
    text = (BASELINES / "README.md").read_text()
    by_run = [{row["run"].strip("`"): [*row.values()][1:] for row in table} for table in tables_in(text)]
    shifted, tuned_shifted, further, _ = by_run
    assert further.keys() == {name for name, figures in WHY.items() if figures["continued"]} > shifted.keys()
    assert tuned_shifted.keys() == WHY.keys() - further.keys()
    shifted |= tuned_shifted
    for name, shown in shifted.items():
        assert shown == [_percent(accuracy) for accuracy in WHY[name]["shifted"].values()]
    for name, shown in further.items():
        last = RUNS[name].history[-1]
        continued = list(WHY[name]["continued"].values())
        losses = [f"{loss:.3f}" for loss in (last.loss, *(epochs[-1]["loss"] for epochs in continued))]
        accuracies = []
        for epochs in continued:
            accuracies.append(", ".join(f"{100 * epoch['test_accuracy']:.1f}" for epoch in epochs) + " %")
        assert shown == [*losses, _percent(last.test_accuracy), *accuracies]
        assert all(epoch["test_accuracy"] > last.test_accuracy for epoch in continued[1])  # a tenth of the rate
    prose = " ".join(text.split())
    assert [phrase for phrase in (*_explained(), *_of_batch_256(), *_of_whole_pixels()) if phrase not in prose] == []


def _of_batch_256() -> list[str]:
    """The phrases on how steady `first` is at batch 128 and 256: medians of the changes of the last 25 epochs."""
    changes: dict[str, dict[tuple[str, int], float]] = {"published": {}, "published-256": {}}
    for run in RUNS.values():
        trained = run.recipe
        if trained.network == "first" and trained.recipe in changes:
            curve = [100 * line.test_accuracy for line in run.history[-26:]]
            changes[trained.recipe][trained.policy.name, trained.seed] = float(np.median(np.abs(np.diff(curve))))
    at_128, at_256 = changes["published"], changes["published-256"]
    difference = statistics.mean([at_256[pair] - at_128[pair] for pair in at_256])
    assert difference.interval is not None
    low, high = difference.interval
    means = [np.mean([medians[pair] for pair in at_256]) for medians in (at_256, at_128)]
    return [
        f"changes by {means[0]:.2f} points at 256 and by {means[1]:.2f} at 128",
        f"{difference.mean:+.2f}, 95 % {low:+.2f} to {high:+.2f} ({difference.n} pairs)",
    ]


def _of_whole_pixels() -> list[str]:
    """The phrases on `first` under `tuned` with shifts by whole pixels and by fractions: test accuracy at the end."""
    whole_pixels, fractions, plain = (_accuracies_of_tuned(policy) for policy in ("shift-pixels", "shift", "none"))
    phrases = [
        f"{np.mean([*whole_pixels.values()]):.1f} % and those by fractions at {np.mean([*fractions.values()]):.1f} %"
    ]
    for left, right in ((whole_pixels, fractions), (whole_pixels, plain), (fractions, plain)):
        difference = statistics.mean([left[seed] - right[seed] for seed in left])
        assert difference.interval is not None
        low, high = difference.interval
        phrases.append(f"{difference.mean:+.1f} points, 95 % {low:+.1f} to {high:+.1f}")
    return phrases


def _accuracies_of_tuned(policy: str) -> dict[int, float]:
    """Test accuracy in percent of `first` under `tuned` in bfloat16, by seed."""
    (group,) = (group for group in whole().groups if group.name == "first-tuned-bfloat16")
    return {seed: 100 * result.metrics.accuracy for seed, result in group.of(policy).items()}


@pytest.mark.parametrize(
    ("document", "phrase"),
    [
        ("README.md", "its shifts blur, which [costs `first` {mean} points]"),
        ("docs/results.md", "With shifts by whole pixels `first` ends {mean} points higher, 95 % {low} to {high} ("),
        ("docs/results.md", "{mean} points lie between them, 95 % {low} to {high} (three pairs"),
        ("bench/recipes/README.md", "it [costs `first` {mean} points]"),
        ("CHANGELOG.md", "interpolation costs {mean} points."),
    ],
)
def test_what_interpolation_costs_is_what_its_runs_say(document: str, phrase: str) -> None:
    whole_pixels, fractions = _accuracies_of_tuned("shift-pixels"), _accuracies_of_tuned("shift")
    difference = statistics.mean([whole_pixels[seed] - fractions[seed] for seed in range(3)])
    assert difference.interval is not None
    low, high = difference.interval
    expected = phrase.format(mean=f"{difference.mean:.1f}", low=f"{low:.1f}", high=f"{high:.1f}")
    assert expected in " ".join((ROOT / document).read_text().split())


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _explained() -> list[str]:
    """The phrases with figures in those sentences."""
    shifted = WHY["first-shift-flip-s0"]["shifted"]
    dead = [f"{count} of the {of}" for count, of in WHY["second-shift-flip-s0"]["dead_channels"].values() if count]
    draws = [100 * epoch["test_accuracy"] for epoch in WHY["second-shift-flip-s0"]["continued"]["same rate"]]
    lowest_two = [WHY[f"second-{policy}-s2"]["continued"] for policy in ("none", "shift-flip")]
    plain, augmented = (continued["same rate"][0] for continued in lowest_two)
    slower = [100 * (f["a tenth"][-1]["test_accuracy"] - f["same rate"][-1]["test_accuracy"]) for f in lowest_two]
    published = [run for run in RUNS.values() if run.recipe.recipe == "published"]
    seconds = [FinishedRun(run) for run in published if run.recipe.network == "second"]
    losses = [np.array([line.loss for line in result.history]) for result in seconds]
    rises = [loss[-1] - loss.min() for loss in losses]
    lowest = [int(loss.argmin()) + 1 for loss in losses]
    jumps = [np.abs(np.diff([100 * line.test_accuracy for line in result.history[-31:]])) for result in seconds]
    medians, largest = [np.median(jump) for jump in jumps], [jump.max() for jump in jumps]
    int8 = [
        100 * (result.metrics.accuracy - entry.accuracy)
        for result in seconds
        for entry in result.exports
        if entry.precision == "int8"
    ]
    changes: dict[str, list[float]] = {"published": [], "tuned": []}
    for run in RUNS.values():
        if run.recipe.recipe in changes:
            last = [100 * line.test_accuracy for line in FinishedRun(run).history[-6:]]
            changes[run.recipe.recipe].append(np.abs(np.diff(last)).max())
    blurred: dict[str, list[float]] = {"none": [], "shift-flip": []}
    for name in sorted(name for name in WHY if "tuned" in name):
        shares = WHY[name]["shifted"]
        blurred[RUNS[name].recipe.policy.name].append(100 * (shares["0.25"] - shares["0"]))
    difference = statistics.mean(np.subtract(blurred["shift-flip"], blurred["none"]).tolist())
    assert difference.interval is not None
    low, high = difference.interval
    return [
        f"the augmented runs change by {np.mean(blurred['shift-flip']):+.1f} points,",
        f"the plain ones by {np.mean(blurred['none']):+.1f}:",
        f"the difference is {difference.mean:.1f}, 95 % {low:.1f} to {high:.1f} ({difference.n} pairs)",
        f"In the {len(changes['tuned'])} runs of `tuned`",
        f"at most {max(changes['tuned']):.1f} points from one epoch to the next among the last six",
        f"in those of `published` by up to {max(changes['published']):.0f}.",
        f"{100 * (max(shifted.values()) - shifted['0']):.1f} points better than on sharp ones",
        f"`second-shift-flip-s0` lie {np.ptp(draws):.0f} points apart",
        f"lowest between epochs {min(lowest)} and {max(lowest)} and rises from there,"
        f" by {min(rises):.2f} to {max(rises):.2f}",
        " channels of one layer and ".join(dead) + " of another are silent on 2,000 test images",
        f"by {min(medians):.1f} to {max(medians):.1f} points from one epoch to the next",
        f"the largest changes are {min(largest):.0f} to {max(largest):.0f}",
        f"int8 costs {min(int8):.1f} to {max(int8):.1f} points",
        f"the next one, at the same rate, has {_percent(plain['test_accuracy'])}",
        f"the next one has {_percent(augmented['test_accuracy'])}",
        f"three epochs of it end {min(slower):.0f} to {max(slower):.0f} points above three at the same rate",
    ]


def test_the_table_of_int8_before_and_after_holds_what_the_manifests_say() -> None:
    expected = []
    for network in PUBLISHED:
        name = f"{network}-shift-flip-s0"
        before = {entry.format: entry for entry in manifest.read(BASELINES / name / "exports")}
        after = {entry.format: entry for entry in ENTRIES_0_1 if entry.stem == name}
        for form in ("onnx-int8", "tflite-int8"):
            shares = [RUNS[name].metrics.accuracy, before[form].agreement, after[form].agreement]
            shares += [before[form].accuracy, after[form].accuracy]
            keras, *rest = (f"{100 * share:.2f}" for share in shares)
            expected.append([f"`{network}`", keras, form, *rest])
            assert after[form].logits is not None
            assert after[form].logits.centred
            assert after[form].bytes <= 1.01 * before[form].bytes
    shown, _ = tables_in((ROOT / "docs" / "int8.md").read_text())
    assert [list(row.values()) for row in shown] == expected


def test_the_table_of_int8_in_newer_runs_holds_what_the_manifests_say() -> None:
    expected = []
    for run in (*RECIPE_RUNS, *runs_in(RECIPES_FOLDER / "precision")):
        entries = {entry.format: entry for entry in manifest.read(run.path / "exports")}
        numbers = [f"{100 * run.metrics.accuracy:.2f}"]
        for form in ("onnx-int8", "tflite-int8"):
            entry = entries[form]
            if entry.logits is not None:  # else from before they were centred
                numbers += [f"{100 * entry.agreement:.2f}", f"{100 * entry.accuracy:.2f}"]
                assert 100 * (run.metrics.accuracy - entry.accuracy) <= 0.5
        if len(numbers) > 1:
            expected.append([f"`{run.path.name}`", *numbers])
    _, shown = tables_in((ROOT / "docs" / "int8.md").read_text())
    assert sorted(list(row.values()) for row in shown) == sorted(expected)


def test_a_difference_that_two_single_runs_may_show_by_chance_is_welchs() -> None:
    """docs/results.md: 95 % of the differences of single runs with the deviations of three seeds lie below it."""
    deviations = []
    for policy in ("none", "shift-flip"):
        accuracies = [100 * RUNS[f"first-{policy}-s{seed}"].metrics.accuracy for seed in range(3)]
        deviations.append(np.std(accuracies, ddof=1))
    plain, augmented = np.square(deviations)
    df = (plain + augmented) ** 2 / (plain**2 / 2 + augmented**2 / 2)
    limit = scipy.stats.t.ppf(0.975, df) * np.sqrt(plain + augmented)
    prose = " ".join(RESULTS.read_text().split())
    assert f"{deviations[0]:.1f} points (no augmentation) to {deviations[1]:.1f} (`shift-flip`)" in prose
    assert (
        f"Welch's {df:.1f} degrees of freedom a difference between two single runs below {limit:.1f} points" in prose
    )
    singles = [row for row in marked_tables()["single"] if row["seeds"] == "1"]
    assert [row["augment"] for row in singles if abs(float(row["gain"])) > limit] == ["vertical-flip", "all"]


def test_no_claim_beyond_the_primary_family_is_corrected() -> None:
    shown = marked_tables()["claims"]
    assert [row["network"] for row in shown if row["Holm"] != "-"] == ["first-tuned-bfloat16"] * 5
    paired = [group for group in whole().groups if group.pairs]
    assert len(shown) == 5 * len(paired) >= 2 * 5 * len(PUBLISHED)  # under `published` and under `tuned`


def test_the_released_models_are_those_of_reference_runs_in_every_format() -> None:
    assert [entry.stem for entry in ENTRIES] == [name for name in sorted(RELEASED) for _ in FORMATS]
    for name in RELEASED:
        of_run = [entry for entry in ENTRIES if entry.file.startswith(name)]
        recorded = {entry.file: entry.weights_sha256 for entry in manifest.read(BASELINES / name / "exports")}
        assert {entry.file: entry.weights_sha256 for entry in of_run} == recorded
        assert (EXPORTS / f"{name}.md").read_text() == card.markdown(FinishedRun(RUNS[name]), of_run)
    assert files.size(EXPORTS) < 55 * 2**20


def test_the_released_models_are_measured_in_the_order_of_our_networks() -> None:
    assert [model.name for model in released_models(EXPORTS)] == list(RELEASED)


def test_the_table_of_the_released_models_holds_what_their_manifest_says() -> None:
    expected = []
    for name in RELEASED:
        entries = {entry.format: entry for entry in ENTRIES if entry.stem == name}
        row = {
            "model": f"[{name}]({name}.md)",
            "test %": f"{100 * RUNS[name].metrics.accuracy:.2f}",
            "onnx-int8 %": f"{100 * entries['onnx-int8'].accuracy:.2f}",
            "tflite-int8 %": f"{100 * entries['tflite-int8'].accuracy:.2f}",
            "onnx kB": f"{entries['onnx'].bytes / 1000:,.0f}",
            "tflite-int8 kB": f"{entries['tflite-int8'].bytes / 1000:,.0f}",
        }
        expected.append(row)
        for form in ("onnx-int8", "tflite-int8"):
            assert 100 * (RUNS[name].metrics.accuracy - entries[form].accuracy) <= 0.3
    (shown,) = [rows for rows in tables_in((EXPORTS / "README.md").read_text()) if "onnx kB" in rows[0]]
    assert shown == expected


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.file)
def test_a_released_file_predicts_as_it_did(entry: ManifestEntry) -> None:
    """In its own runtime: on the run's test images where they are available; else on drawn ones."""
    path = EXPORTS / entry.file
    assert manifest.verify_checksum(path) == entry
    images = _test_images()
    has_test_images = images is not None
    if images is None:
        images = dataset.draw_synthetic(10, N_IMAGES).x_test
    probabilities = _predict(entry.format, path, images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=0.02)
    name = entry.stem
    if has_test_images:
        expected = RUNS[name].predictions()[0][:N_IMAGES]
    else:
        expected = _predict("saved-model", EXPORTS / f"{name}.saved_model", images)
    agreement = float((probabilities.argmax(axis=1) == expected.argmax(axis=1)).mean())
    if entry.format in FLOAT32_FORMATS:
        assert np.abs(probabilities - expected).max() <= 1e-4
    elif has_test_images:  # an integer network may predict anything on images that it was not trained for
        assert agreement == pytest.approx(entry.agreement, abs=0.03)


def _predict(format_name: str, path: Path, images: Images) -> Probabilities:
    return classification.predict(load_session(format_name, path, 2), images)


@cache
def _test_images() -> Images | None:
    try:
        data = dataset.load_cifar10(None, lambda _: None, download=False)
    except NotFoundError:
        assert not os.environ.get("CIFAR10_DIR")
        return None
    return data.x_test[:N_IMAGES] if data.sha256 == ENTRIES[0].data_sha256 else None
