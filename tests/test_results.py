"""What is committed is so: the reference results, what the README shows of them, the released models."""

import json
import os
import re
from functools import cache

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from cifar import __version__
from cifar.analysis import summary
from cifar.analysis.finished_run import Result
from cifar.benchmark import report as bench_report
from cifar.benchmark.tables import Result as Measured
from cifar.data import dataset
from cifar.errors import NotFoundError
from cifar.formats import FLOAT32_FORMATS, FORMATS, manifest
from cifar.formats.manifest import Line
from cifar.metrics import classification
from cifar.recipes import recipe
from cifar.report import card, figures, table, tables
from cifar.runs.run import runs_in
from cifar.system import files

BASELINES = ROOT / "bench" / "baselines"
EXPORTS = ROOT / "exports"
README = (ROOT / "README.md").read_text()
RUNS = {run.path.name: run for run in runs_in(BASELINES)}
LINES = manifest.read(EXPORTS)
WHY = json.loads((BASELINES / "why.json").read_text())["runs"]
IMAGES = 1000  # of the test set, on which a released file answers again here

Row = dict[str, str]


@cache
def whole() -> summary.Summary:
    return summary.summarise(list(RUNS.values()))


def tables_in(text: str) -> list[list[Row]]:
    """The Markdown tables of a text, rows by column; of two columns of one name the second is 'name 2'."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines())
        names = [f"{name} {head[:i].count(name) + 1}" if name in head[:i] else name for i, name in enumerate(head)]
        found.append([dict(zip(names, row, strict=True)) for row in rows])
    return found


def shown() -> list[list[Row]]:
    """The tables of the README's results."""
    return tables_in(README.partition("\n## Results\n")[2].partition("\n## ")[0])


def committed() -> list[list[Row]]:
    """All tables that the committed results give."""
    measured = json.loads((ROOT / "bench" / "history" / f"{__version__}.json").read_text())
    seeds = [tables.averages(group.averages(), "") for group in whole().groups]
    text = table.markdown([*tables.sections(whole(), "confident"), *seeds])
    return tables_in(text) + tables_in(bench_report.markdown(Measured(measured["rows"], [], {})))


def test_every_figure_of_the_readme_is_in_the_committed_results() -> None:
    known = committed()
    for rows_shown in shown():
        names = rows_shown[0].keys()
        sources = [source for source in known if names <= source[0].keys()]
        assert sources, f"no table has the columns {list(names)}"
        given = [{name: row[name] for name in names} for source in sources for row in source]
        for row in rows_shown:
            assert row in given, row


def test_the_readme_shows_every_network_with_and_without_augmentation() -> None:
    (accuracy,) = (rows_shown for rows_shown in shown() if "gap" in rows_shown[0])
    wanted = [(network, augment) for network in ("first", "second", "third") for augment in ("none", "shift-flip")]
    assert [(row["network"], row["augment"]) for row in accuracy] == wanted


@pytest.mark.parametrize("name", RUNS)
def test_a_reference_run_is_whole_and_has_the_reference_recipe(name: str) -> None:
    result = Result(RUNS[name])  # raises unless its files belong together
    mine = result.run.recipe
    assert mine == recipe(mine.network, mine.policy.name, seed=mine.seed, profile="reference", dataset="cifar10")
    assert result.metrics.n_train == dataset.TRAIN
    assert result.metrics.n_test == dataset.TEST
    assert {line.format for line in result.exported} == set(FORMATS)


def test_no_image_and_no_model_is_among_the_reference_runs() -> None:
    found = {path.name for path in BASELINES.rglob("*") if path.is_file() and "figures" not in path.parts}
    assert found <= {
        *("recipe.json", "environment.json", "metrics.json", "history.jsonl", "timing.jsonl", "predictions.npz"),
        *("verify.jsonl", "manifest.json", "quality.json", "README.md", "curves.png", ".lock", "why.py", "why.json"),
    }


def test_the_picture_of_the_curves_is_drawn_from_these_histories() -> None:
    with Image.open(BASELINES / "curves.png") as picture:
        assert picture.info["histories"] == figures.histories(whole().groups)


def test_the_explanations_tell_what_why_json_and_the_histories_hold() -> None:
    """bench/baselines/README.md: its tables whole, and the figures of its sentences, to the digit shown."""
    text = (BASELINES / "README.md").read_text()
    moves, epochs = ({row["run"].strip("`"): [*row.values()][1:] for row in table} for table in tables_in(text))
    assert epochs.keys() == WHY.keys() > moves.keys()
    for name, shown in moves.items():
        assert shown == [_percent(accuracy) for accuracy in WHY[name]["moved"].values()]
    for name, shown in epochs.items():
        last = RUNS[name].history[-1]
        third = [further[-1] for further in WHY[name]["further"].values()]
        losses = [f"{loss:.3f}" for loss in (last.loss, *(end["loss"] for end in third))]
        assert shown == [*losses, *map(_percent, (last.test_accuracy, *(end["test_accuracy"] for end in third)))]
    prose = " ".join(text.split())
    assert [phrase for phrase in _explained() if phrase not in prose] == []


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _explained() -> list[str]:
    """What those sentences have to say."""
    moved = WHY["first-shift-flip-s0"]["moved"]
    quiet = [f"{mute} of the {of}" for mute, of in WHY["second-shift-flip-s0"]["silent"].values() if mute]
    lowest_two = [WHY[f"second-{policy}-s2"]["further"] for policy in ("none", "shift-flip")]
    plain, augmented = (further["same rate"][0] for further in lowest_two)
    slower = [100 * (f["a tenth"][-1]["test_accuracy"] - f["same rate"][-1]["test_accuracy"]) for f in lowest_two]
    seconds = [Result(run) for name, run in RUNS.items() if name.startswith("second-")]
    losses = [np.array([line.loss for line in result.history]) for result in seconds]
    rises = [loss[-1] - loss.min() for loss in losses]
    lowest = [int(loss.argmin()) + 1 for loss in losses]
    jumps = [np.abs(np.diff([100 * line.test_accuracy for line in result.history[-31:]])) for result in seconds]
    medians, largest = [np.median(jump) for jump in jumps], [jump.max() for jump in jumps]
    int8 = [
        100 * (result.metrics.accuracy - line.accuracy)
        for result in seconds
        for line in result.exported
        if line.precision == "int8"
    ]
    return [
        f"{100 * (max(moved.values()) - moved['0']):.1f} points better than on sharp ones",
        f"lowest between epochs {min(lowest)} and {max(lowest)} and rises from there,"
        f" by {min(rises):.2f} to {max(rises):.2f}",
        " channels of one layer and ".join(quiet) + " of another are silent on 2,000 test images",
        f"by {min(medians):.1f} to {max(medians):.1f} points from one epoch to the next",
        f"the largest changes are {min(largest):.0f} to {max(largest):.0f}",
        f"int8 costs {min(int8):.1f} to {max(int8):.1f} points",
        f"the next one, at the same rate, has {_percent(plain['test_accuracy'])}",
        f"the next one has {_percent(augmented['test_accuracy'])}",
        f"three epochs of it end {min(slower):.0f} to {max(slower):.0f} points above three at the same rate",
    ]


def test_the_released_models_are_the_augmented_ones_of_seed_0() -> None:
    assert {(line.network, line.augment, line.seed) for line in LINES} == {
        (network, "shift-flip", 0) for network in ("first", "second", "third")
    }
    for name in {f"{line.network}-{line.augment}-s{line.seed}" for line in LINES}:
        mine = [line for line in LINES if line.file.startswith(name)]
        recorded = {line.file: line.sha256 for line in manifest.read(BASELINES / name / "exports")}
        assert {line.file: line.sha256 for line in mine} == recorded
        assert (EXPORTS / f"{name}.md").read_text() == card.markdown(Result(RUNS[name]), mine)
    assert files.size(EXPORTS) < 25 * 2**20


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.file)
def test_a_released_file_answers_again_as_it_did(line: Line) -> None:
    """In its own runtime: on the test images as the run did, where they are at hand; else on drawn ones."""
    path = EXPORTS / line.file
    assert manifest.verify_checksum(path) == line
    name = f"{line.network}-{line.augment}-s{line.seed}"
    images = _test_images()
    at_hand = images is not None
    if images is None:
        images = dataset.draw_synthetic(10, IMAGES).x_test
    answers = classification.predict(FORMATS[line.format].module.load(path, 2), images)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=0.02)
    expected = RUNS[name].predictions()[0][:IMAGES] if at_hand else _saved_model(name, images)
    same = float((answers.argmax(axis=1) == expected.argmax(axis=1)).mean())
    if line.format in FLOAT32_FORMATS:
        assert np.abs(answers - expected).max() <= 1e-4
    elif at_hand:  # how an integer network errs on what it was not trained for, nothing tells
        assert same == pytest.approx(line.agreement, abs=0.03)


def _saved_model(name: str, images: np.ndarray) -> np.ndarray:
    return classification.predict(FORMATS["saved-model"].module.load(EXPORTS / f"{name}.saved_model", 2), images)


@cache
def _test_images() -> np.ndarray | None:
    try:
        data = dataset.load_cifar10(None, lambda _: None, download=False)
    except NotFoundError:
        assert not os.environ.get("CIFAR10_DIR")
        return None
    return data.x_test[:IMAGES] if data.sha256 == LINES[0].data_sha256 else None
