"""The figures show what the runs hold, and no text in them is cut."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.summary import summarise
from cifar.data.dataset import Dataset
from cifar.report import figure_files, plots
from cifar.runs.run import Run

PolicyRuns = dict[tuple[str, int], Run]


def lines_by_column(figure: Any) -> dict[str, Any]:
    """Return the lines of the upper panels by their titles."""
    return {panel.get_title(): panel.lines for panel in figure.axes if panel.get_title()}


def test_each_policy_has_its_curves_beside_the_plain_run(policy_runs: PolicyRuns) -> None:
    (group,) = summarise([policy_runs[augment, 0] for augment in ("none", "flip", "rotate")]).groups
    drawn = lines_by_column(plots.curves(group.results))
    assert set(drawn) == {"flip\nseed 0", "rotate\nseed 0"}
    plain, flip, rotate = ([line.test_loss for line in result.history] for result in group.results)
    assert [list(line.get_ydata()) for line in drawn["rotate\nseed 0"]][1::2] == [plain, rotate]
    assert [list(line.get_ydata()) for line in drawn["flip\nseed 0"]][1::2] == [plain, flip]


def test_every_figure_is_drawn_and_differs_from_run_to_run(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    images = {small.sha256: small.x_test}
    summary = summarise(pair)
    paths = figure_files.draw_all(summary, tmp_path, "confident", images)
    paths += figure_files.draw_all(summary, tmp_path, "confident", images, networks=False)
    assert len(paths) == len(set(paths)) == 9
    contents = set()
    for path in paths:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert pixels.shape[0] > 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
        contents.add(pixels.tobytes())
    assert len(contents) == 9


def test_figures_of_other_data_have_no_pictures(pair: list[Run], tmp_path: Path) -> None:
    paths = figure_files.draw_all(summarise(pair), tmp_path, "confident", {})
    assert {path.name.split("-")[-1] for path in paths} == {"curves.png", "confusion.png"}


def test_the_figure_of_misclassified_pictures_shows_those_pictures(pair: list[Run], small: Dataset) -> None:
    results = summarise(pair).results
    figure = plots.misclassified(results, small.x_test, "confident")
    shown = [axes.images[0].get_array() for block in figure.subfigs for axes in block.axes if axes.images]
    expected = [small.x_test[row["index"]] for result in results for row in result.misclassified("confident")]
    assert len(shown) == 20
    assert all((np.asarray(a) == b).all() for a, b in zip(shown, expected, strict=True))


def test_the_overview_draws_what_all_networks_have(policy_runs: PolicyRuns, six_runs: list[Run]) -> None:
    of_second = [policy_runs["none", 0], policy_runs["flip", 0]]
    of_first = six_runs[:2]  # none and shift-flip
    summary = summarise([*of_second, *of_first])
    drawn = lines_by_column(plots.overview(summary.groups))
    assert set(drawn) == {"second\nseed 0", "first\nseed 0"}
    for name, result in (("second\nseed 0", summary.results[0]), ("first\nseed 0", summary.groups[1].results[0])):
        training, test = drawn[name]  # of `none` only: the other policies are not common
        assert list(training.get_ydata()) == [line.loss for line in result.history]
        assert list(test.get_ydata()) == [line.test_loss for line in result.history]


def test_the_overview_names_all_data(six_runs: list[Run]) -> None:
    groups = summarise(six_runs).groups
    result = groups[0].results[0]
    result.metrics = result.metrics.model_copy(update={"dataset": "cifar10", "official": True})
    text = plots.overview(groups).get_supxlabel()
    assert "Data: CIFAR-10 (" in text
    assert "SYNTHETIC DATA" in text


def test_curves_of_several_seeds_are_their_mean_and_their_range(policy_runs: PolicyRuns) -> None:
    plain = [policy_runs["none", seed] for seed in (0, 1, 2)]
    (group,) = summarise([*plain, policy_runs["flip", 0]]).groups
    figure = plots.curves(group.results)
    ((title, (_, test, *_)),) = lines_by_column(figure).items()
    assert title == "flip\nplain: 3 seeds\nflip: seed 0"
    losses = np.array([[line.test_loss for line in result.history] for result in group.results[:3]])
    assert list(test.get_ydata()) == list(losses.mean(axis=0))
    _, band = figure.axes[0].collections
    extents = band.get_paths()[0].get_extents()
    assert (extents.y0, extents.y1) == pytest.approx((losses.min(), losses.max()))


def is_within(inner: Any, outer: Any) -> bool:
    return bool(outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and inner.x1 <= outer.x1 and inner.y1 <= outer.y1)


def assert_legible(figure: Any) -> None:
    """No text of a figure is cut off, and none lies on another."""
    figure.draw_without_rendering()
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    ticks = {label for axis in axes for label in axis.get_ticklabels()}  # including those out of sight
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text not in ticks and text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    cut = [text.get_text() for text, box in zip(texts, boxes, strict=True) if not is_within(box, figure.bbox)]
    assert cut == []
    padded = [box.padded(1) for box in boxes]
    pairs = combinations(zip(texts, padded, strict=True), 2)
    crossed = [(one.get_text(), other.get_text()) for (one, at), (other, by) in pairs if at.overlaps(by)]
    assert crossed == []


def test_no_text_of_a_figure_is_cut_or_overprinted(pair: list[Run], small: Dataset) -> None:
    (group,) = summarise(pair).groups
    result = group.results[0]
    longest_caption = {"dataset": "cifar10", "official": False}
    result.metrics = result.metrics.model_copy(update=longest_caption)
    for figure in (
        plots.confusion([result]),
        plots.curves([result]),
        plots.misclassified([result], small.x_test, "confident"),
        plots.misclassified([result] * 8, small.x_test, "confident"),
    ):
        assert_legible(figure)


def test_long_names_of_recipe_and_policy_overprint_nothing(pair: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    (group,) = summarise(pair).groups
    monkeypatch.setattr(FinishedRun, "augment", "pad-crop-alternating-flip")
    monkeypatch.setattr(FinishedRun, "network", "airbench94 somebody's-own bfloat16")
    assert_legible(plots.curves([group.results[0]]))
