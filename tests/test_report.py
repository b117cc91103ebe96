import io
import json
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import train_here
from matplotlib.text import Text
from PIL import Image
from rich.console import Console

from cifar import export
from cifar.analysis import summary
from cifar.analysis.gains import judge_claims
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.formats import manifest
from cifar.metrics import statistics
from cifar.recipes import recipe
from cifar.report import figures, table, tables, terminal
from cifar.report.table import Table, render
from cifar.runs.run import Run
from cifar.runs.schemas import Epoch


def printed(whole: summary.Summary, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    terminal.show(console, whole, "confident", {})
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_gain_is_the_difference_on_the_same_images(pair: list[Run]) -> None:
    (group,) = summary.summarise(pair).groups
    (gain,) = group.gains()
    plain, augmented = (run.metrics.accuracy for run in pair)
    assert gain.difference == pytest.approx(augmented - plain)
    correct_mask = [(p.argmax(axis=1) == labels) for p, labels in (run.predictions() for run in pair)]
    assert gain.p_value == statistics.paired_difference(*correct_mask).p_value
    assert (gain.seeds, gain.basis) == ([0], "test images, one seed")


def test_over_seeds_the_gain_is_the_mean_of_the_paired_differences(small: Dataset, tmp_path: Path) -> None:
    wanted = [
        recipe("second", augment, seed=seed, epochs=1, dataset="synthetic")
        for augment in ("none", "shift-flip")
        for seed in (0, 1, 2)
        if (augment, seed) != ("none", 2)  # a seed without its plain twin does not count
    ]
    runs = train_here(wanted, small, tmp_path)
    (gain,) = summary.summarise(runs).groups[0].gains()
    accuracy = {(run.recipe.policy.name, run.recipe.seed): run.metrics.accuracy for run in runs}
    differences = [accuracy["shift-flip", seed] - accuracy["none", seed] for seed in (0, 1)]
    assert gain.seeds == [0, 1]
    assert gain.difference == pytest.approx(np.mean(differences))
    assert gain.interval == statistics.mean(differences).interval
    assert gain.p_value is None
    late = {
        (run.recipe.policy.name, run.recipe.seed): np.mean([e.test_accuracy for e in run.history]) for run in runs
    }
    assert (
        gain.mean_last_epochs_interval
        == statistics.mean([late["shift-flip", n] - late["none", n] for n in (0, 1)]).interval
    )


def test_an_average_is_over_all_seeds_of_a_policy(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    wanted = [recipe("second", "none", seed=seed, epochs=6, dataset="synthetic") for seed in (0, 1)]
    runs = train_here([*wanted, recipe("second", "flip", epochs=6, dataset="synthetic")], small, tmp_path)
    whole = summary.summarise(runs)
    (plain, flip) = whole.groups[0].averages()
    late = [np.mean([line.test_accuracy for line in run.history[-5:]]) for run in runs]
    assert (plain.augment, plain.seeds, flip.augment, flip.seeds) == ("none", [0, 1], "flip", [0])
    assert plain.test == statistics.mean([run.metrics.accuracy for run in runs[:2]])
    assert plain.late == statistics.mean([float(value) for value in late[:2]])
    assert plain.train == pytest.approx(np.mean([run.metrics.train_accuracy_clean for run in runs[:2]]))
    assert flip.late.interval is None
    assert plain.test.interval is not None
    reach = (plain.test.interval[1] - plain.test.mean) * 100
    assert f" {plain.test.mean * 100:.1f} ± {reach:.1f} " in printed(whole)
    assert "over seeds" not in printed(summary.summarise(pair)).lower().replace("intervals are over seeds", "")


def test_what_a_format_costs_is_what_its_manifest_says(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    runs = train_here(
        [recipe("second", "none", seed=n, epochs=1, dataset="synthetic") for n in (0, 1)], small, tmp_path
    )
    for run in runs:
        export.export_runs([run], small, ["onnx", "onnx-int8"], run.path / "exports", max_drop=100)
    with manifest.locked_entries(runs[0].path / "exports") as lines:  # a file of other weights does not count
        other = next(iter(lines.values())).model_copy(update={"weights_sha256": "0" * 64, "file": "other.onnx"})
        lines["other.onnx"] = other.model_copy(update={"accuracy": 0.0, "agreement": 0.0})
    (onnx, int8) = summary.summarise(runs).groups[0].exported()
    changes = [
        line.accuracy - run.metrics.accuracy
        for run in runs
        for line in manifest.read(run.path / "exports")
        if line.file == f"{run.path.name}.int8.onnx"
    ]
    assert (onnx.format, onnx.change.mean, onnx.agreement) == ("onnx", 0.0, 1.0)
    assert int8.change == statistics.mean(changes)
    assert (int8.worst, int8.best) == (min(changes), max(changes))
    assert f"{int8.change.mean * 100:+.2f}" in printed(summary.summarise(runs))
    assert summary.summarise(pair).groups[0].exported() == []


def test_below_twenty_epochs_no_claim_is_judged(pair: list[Run]) -> None:
    (group,) = summary.summarise(pair).groups
    assert [claim.verdict for claim in group.claims()] == ["too short to judge"] * 5
    assert "too short to judge" in printed(summary.summarise(pair))


def judged(pair: list[Run], plain: dict[str, float], augmented: dict[str, float]) -> list[str]:
    """The verdicts if both runs had 20 such epochs; accuracies and predictions stay those of the runs."""
    whole = summary.summarise([Run(run.path) for run in pair])
    for result, line in zip(whole.results, (plain, augmented), strict=True):
        result.history = [Epoch(epoch=e, weights_sha256="", **line) for e in range(1, 21)]
        result.run.identity = result.run.identity.model_copy(
            update={"recipe": result.run.recipe.model_copy(update={"epochs": 20})}
        )
        result.metrics = result.metrics.model_copy(update={"train_accuracy_clean": line["accuracy"] + 0.2})
    return [claim.verdict for claim in whole.groups[0].claims()]


def test_the_claims_follow_the_figures(pair: list[Run]) -> None:
    overfit = {"loss": 0.2, "accuracy": 0.9, "test_loss": 0.9, "test_accuracy": 0.8}
    narrow = {"loss": 0.6, "accuracy": 0.7, "test_loss": 0.5, "test_accuracy": 0.75}
    assert judged(pair, overfit, narrow)[:2] == ["yes", "yes"]
    assert judged(pair, narrow, overfit)[:2] == ["no", "no"]
    assert judged(pair, overfit, narrow)[3:] == ["yes", "no"]
    assert judged(pair, overfit, overfit)[3] == "no"


def stand_in(gap: float, accuracy: float, clean: float = 0.5) -> Any:
    """As much of a Result as the claims are judged by."""
    late = {"test_accuracy": accuracy, "accuracy": clean}
    return SimpleNamespace(
        loss_gap=gap,
        mean_last_epochs=late.get,
        scores=SimpleNamespace(accuracy=accuracy),
        metrics=SimpleNamespace(train_accuracy_clean=clean),
        run=SimpleNamespace(recipe=SimpleNamespace(epochs=50)),
        seed=0,
    )


@pytest.mark.parametrize(
    ("gaps", "narrowed", "accuracies", "expected"),
    [
        ((0.10, 0.11, 0.12), (0.0, 0.0, 0.0), (0.60, 0.61, 0.62), ["yes", "yes", "yes"]),
        ((0.12, -0.02, 0.13), (0.14, 0.05, 0.0), (0.58, 0.52, 0.53), ["cannot tell", "cannot tell", "cannot tell"]),
        ((-0.10, -0.11, -0.12), (0.0, 0.0, 0.0), (0.40, 0.41, 0.42), ["no", "no", "no"]),
    ],
)
def test_of_several_seeds_the_interval_decides_every_claim(
    gaps: tuple[float, ...], narrowed: tuple[float, ...], accuracies: tuple[float, ...], expected: list[str]
) -> None:
    pairs = [
        (stand_in(gap, 0.55), stand_in(other, accuracy))
        for gap, other, accuracy in zip(gaps, narrowed, accuracies, strict=True)
    ]
    claims = judge_claims("first", "flip", pairs)
    assert [claim.verdict for claim in claims[:3]] == expected
    low, high = statistics.mean([a - b for a, b in zip(gaps, narrowed, strict=True)]).interval or (0, 0)
    assert f"95 % {low:+.3f} to {high:+.3f} (3 seeds)" in claims[1].figures


def lines_by_column(figure: Any) -> dict[str, Any]:
    """The lines of the upper panels by their titles."""
    return {panel.get_title(): panel.lines for panel in figure.axes if panel.get_title()}


def test_of_several_policies_the_published_one_is_judged_and_each_has_its_curves(
    small: Dataset, tmp_path: Path
) -> None:
    others = [recipe("second", name, epochs=2, dataset="synthetic") for name in ("none", "flip", "rotate")]
    runs = train_here(others, small, tmp_path)
    (group,) = summary.summarise(runs).groups
    assert {claim.claim.split()[0] for claim in group.claims()} == {"the", "flip", "rotate", "with"}
    figure = figures.curves(group.results)
    drawn = lines_by_column(figure)
    assert set(drawn) == {"flip\nseed 0", "rotate\nseed 0"}
    plain, flip, rotate = ([line.test_loss for line in result.history] for result in group.results)
    assert [list(line.get_ydata()) for line in drawn["rotate\nseed 0"]][1::2] == [plain, rotate]
    assert [list(line.get_ydata()) for line in drawn["flip\nseed 0"]][1::2] == [plain, flip]
    (both,) = summary.summarise(
        [*runs, *train_here([recipe("second", "shift-flip", epochs=2, dataset="synthetic")], small, tmp_path)]
    ).groups
    assert not any("rotate" in claim.claim for claim in both.claims())
    assert len(both.claims()) == 5


def test_predictions_that_do_not_give_the_accuracy_are_refused(small: Dataset, tmp_path: Path) -> None:
    (run,) = train_here([recipe("second", "none", epochs=1, dataset="synthetic")], small, tmp_path)
    metrics = json.loads((run.path / "metrics.json").read_text())
    (run.path / "metrics.json").write_text(json.dumps({**metrics, "accuracy": metrics["accuracy"] + 0.01}))
    with pytest.raises(UsageError, match=r"predictions\.npz gives accuracy"):
        summary.summarise([run])


def test_a_report_fits_80_columns_and_names_its_data(pair: list[Run]) -> None:
    text = printed(summary.summarise(pair))
    assert max(map(len, text.splitlines())) <= 80
    assert " ".join(text.split()).count("SYNTHETIC DATA, not CIFAR-10") == 2


def test_columns_move_together_before_a_word_is_cut() -> None:
    def lines(word: str) -> list[str]:
        console = Console(file=io.StringIO(), width=80)
        console.print(
            render(Table("", ("a<", "b>", "c"), [(word, "2", "more words than can stand in a line " * 3)]))
        )
        return console.file.getvalue().splitlines()  # type: ignore[attr-defined]

    assert lines("x" * 70)[2].startswith("x" * 70 + "  2  ")
    assert lines("x" * 71)[2].startswith("x" * 71 + " 2 ")
    assert max(map(len, lines("x" * 71))) <= 80


@pytest.mark.parametrize(
    ("official", "words"), [(True, "Data: CIFAR-10 (sha"), (False, "not bit for bit the published one")]
)
def test_a_caption_says_whether_the_data_is_the_published_one(official: bool, words: str) -> None:
    assert words in tables.data_caption("cifar10", official, "a" * 64, 10_000)


def test_the_ten_pictures_are_wrong_and_the_most_confident(pair: list[Run]) -> None:
    (first, _) = summary.summarise(pair).results
    rows = first.misclassified("confident")
    probabilities, labels = pair[0].predictions()
    wrong = probabilities.argmax(axis=1) != labels
    assert len(rows) == 10
    assert all(wrong[row["index"]] for row in rows)
    expected = np.sort(probabilities.max(axis=1)[wrong])[::-1][:10]
    assert [row["confidence"] for row in rows] == expected.tolist()


def test_every_figure_is_drawn_and_differs_from_run_to_run(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    images = {small.sha256: small.x_test}
    paths = figures.draw_all(summary.summarise(pair), tmp_path, "confident", images)
    assert len(paths) == len(set(paths)) == 9
    contents = set()
    for path in paths:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert pixels.shape[0] > 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
        contents.add(pixels.tobytes())
    assert len(contents) == 9


def test_the_figure_of_misclassified_pictures_shows_those_pictures(pair: list[Run], small: Dataset) -> None:
    results = summary.summarise(pair).results
    figure = figures.misclassified(results, small.x_test, "confident")
    shown = [axes.images[0].get_array() for block in figure.subfigs for axes in block.axes if axes.images]
    expected = [small.x_test[row["index"]] for result in results for row in result.misclassified("confident")]
    assert len(shown) == 20
    assert all((np.asarray(a) == b).all() for a, b in zip(shown, expected, strict=True))


def test_figures_of_other_data_have_no_pictures(pair: list[Run], tmp_path: Path) -> None:
    paths = figures.draw_all(summary.summarise(pair), tmp_path, "confident", {})
    assert {path.name.split("-")[-1] for path in paths} == {"curves.png", "confusion.png"}


def test_pictures_in_the_terminal_have_the_colours_of_the_images() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :16] = (255, 0, 0)
    text = terminal.pictures(image[np.newaxis].repeat(7, axis=0), [("cat", "dog 99%")] * 7)
    first = text.plain.splitlines()[0]
    assert first == ("▀" * 15 + " ") * 5
    assert str(text.spans[0].style) == "rgb(255,0,0) on rgb(255,0,0)"
    assert str(text.spans[14].style) == "rgb(0,0,0) on rgb(0,0,0)"
    assert text.plain.count("cat") == text.plain.count("dog 99%") == 7


def test_the_overview_draws_what_all_networks_have(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    others = [recipe("first", name, epochs=1, dataset="synthetic") for name in ("none", "flip")]
    runs = [*pair, *train_here(others, small, tmp_path)]
    whole = summary.summarise(runs)
    figure = figures.overview(whole.groups)
    drawn = lines_by_column(figure)
    assert set(drawn) == {"second\nseed 0", "first\nseed 0"}
    for name, result in (("second\nseed 0", whole.results[0]), ("first\nseed 0", whole.groups[1].results[0])):
        training, test = drawn[name]  # of `none` alone: the other policies are not common
        assert list(training.get_ydata()) == [line.loss for line in result.history]
        assert list(test.get_ydata()) == [line.test_loss for line in result.history]


def test_curves_of_several_seeds_are_their_mean_and_their_range(small: Dataset, tmp_path: Path) -> None:
    wanted = [recipe("second", "none", seed=seed, epochs=2, dataset="synthetic") for seed in (0, 1, 2)]
    wanted.append(recipe("second", "flip", epochs=2, dataset="synthetic"))
    (group,) = summary.summarise(train_here(wanted, small, tmp_path)).groups
    figure = figures.curves(group.results)
    ((title, (_, test, *_)),) = lines_by_column(figure).items()
    assert title == "flip\nplain: 3 seeds\nflip: seed 0"
    losses = np.array([[line.test_loss for line in result.history] for result in group.results[:3]])
    assert list(test.get_ydata()) == list(losses.mean(axis=0))
    _, band = figure.axes[0].collections
    reach = band.get_paths()[0].get_extents()
    assert (reach.y0, reach.y1) == pytest.approx((losses.min(), losses.max()))


def test_groups_that_differ_in_threads_alone_have_figures_of_their_own(small: Dataset, tmp_path: Path) -> None:
    wanted = [recipe("second", "none", epochs=1, dataset="synthetic", threads=threads) for threads in (1, 2)]
    whole = summary.summarise(train_here(wanted, small, tmp_path))
    names = [group.name for group in whole.groups]
    assert len(set(names)) == 2
    assert all(name.startswith("second-synthetic-300x1-") for name in names)
    assert len(lines_by_column(figures.overview(whole.groups))) == 2


def test_the_overview_names_all_data(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    other = train_here([recipe("first", "none", epochs=1, dataset="synthetic")], small, tmp_path)
    whole = summary.summarise([*pair, *other])
    result = whole.groups[0].results[0]
    result.metrics = result.metrics.model_copy(update={"dataset": "cifar10", "official": True})
    text = figures.overview(whole.groups).get_supxlabel()
    assert "Data: CIFAR-10 (" in text
    assert "SYNTHETIC DATA" in text


def _within(inner: Any, outer: Any) -> bool:
    return bool(outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and inner.x1 <= outer.x1 and inner.y1 <= outer.y1)


def test_no_text_of_a_figure_is_cut_or_overprinted(pair: list[Run], small: Dataset) -> None:
    (group,) = summary.summarise(pair).groups
    result = group.results[0]
    longest_caption = {"dataset": "cifar10", "official": False}
    result.metrics = result.metrics.model_copy(update=longest_caption)
    for figure in (
        figures.confusion([result]),
        figures.curves([result]),
        figures.misclassified([result], small.x_test, "confident"),
        figures.misclassified([result] * 8, small.x_test, "confident"),
    ):
        figure.draw_without_rendering()
        axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
        ticks = {label for axis in axes for label in axis.get_ticklabels()}  # those out of sight among them
        texts = [
            text for text in figure.findobj(Text) if text.get_visible() and text not in ticks and text.get_text()
        ]
        boxes = [text.get_window_extent() for text in texts]
        cut = [text.get_text() for text, box in zip(texts, boxes, strict=True) if not _within(box, figure.bbox)]
        assert cut == []
        padded = [box.padded(1) for box in boxes]
        pairs = combinations(zip(texts, padded, strict=True), 2)
        crossed = [(one.get_text(), other.get_text()) for (one, at), (other, by) in pairs if at.overlaps(by)]
        assert crossed == []


def test_sections_as_markdown_have_a_cell_for_every_column(pair: list[Run]) -> None:
    whole = summary.summarise(pair)
    text = table.markdown(tables.sections(whole, "first"))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == text.count("## ") == 5
    assert all(line.count("|") == block[0].count("|") for block in blocks for line in block)
    accuracy = pair[0].metrics.accuracy
    assert f"| second | none | 0 | {accuracy:.1%} |" in text
    assert "--:" in blocks[0][1]
    assert table.markdown([Table("a", ("b", "c>", "d<"), [("1", "2", "3")], ["*"])]) == (
        "## a\n\n| b | c | d |\n| :-- | --: | :-- |\n| 1 | 2 | 3 |\n\n\\*\n"
    )
