"""The figures of a report: learning curves, confusion matrices, misclassified pictures."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.groups import Group
from cifar.metrics import classification
from cifar.metrics.misclassified import PICKS
from cifar.recipes import POLICIES
from cifar.report.captions import caption_of, data_captions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = (
    *("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3"),
    *("#8c8c8c", "#ccb974", "#64b5cd", "#2f3b52", "#8a5a00", "#7f9f3f", "#b02a5b"),
)
COLOURS = dict(zip(POLICIES, PALETTE, strict=True))
"""A policy has the same one in every figure."""
OTHER_COLOUR = "#333333"  # of a policy that is not in POLICIES
MATRICES_PER_ROW = 3
TITLE_Y = 1  # in axes coordinates: without it matplotlib searches, for an eighth of a report's time
MARKED_EPOCHS = 10  # a curve of fewer has its epochs marked


class Curve(NamedTuple):
    """A quantity of the history: its title, its columns, and how its values are written."""

    title: str
    training: str
    test: str
    format: str


CURVES = (
    Curve("Loss (cross-entropy, nats)", "loss", "test_loss", "{x:g}"),
    Curve("Accuracy", "accuracy", "test_accuracy", "{x:.0%}"),
)


def overview(groups: Sequence[Group]) -> "Figure":
    """Return the learning curves of several networks, a column each, of the policies that all of them have."""
    common = common_policies(groups)
    columns = {}
    for group in groups:
        columns[group.name] = [result for result in group.results if result.augment in common]
    figure = _curves(columns)
    _add_footer(figure, " ".join(data_captions(groups)))
    return figure


def common_policies(groups: Sequence[Group]) -> list[str]:
    """Return the policies that all groups have."""
    common = set(groups[0].policies)
    for group in groups:
        common.intersection_update(group.policies)
    return sorted(common, key=groups[0].policies.index)


def curves(results: Sequence[FinishedRun]) -> "Figure":
    """Return the learning curves of one network, a column per policy, each beside the runs without augmentation."""
    columns = _by_policy(results)
    plain = columns.pop("none", [])
    for policy, augmented in columns.items():
        columns[policy] = [*plain, *augmented]
    figure = _curves(columns or {"plain": plain})
    _add_title(figure, f"{results[0].network}: learning curves", results[0])
    return figure


def _curves(columns: Mapping[str, Sequence[FinishedRun]]) -> "Figure":
    """Return loss above accuracy over epochs: training dashed, test solid, a colour per policy; means over seeds."""
    figure = _figure(max(2.4 * len(columns), 5.8) + 2.6, 6.2)
    rows = figure.subplots(len(CURVES), len(columns), sharex="col", sharey="row", squeeze=False)
    for (title, results), column in zip(columns.items(), rows.T, strict=True):
        for curve, panel in zip(CURVES, column, strict=True):
            for same_policy in _by_policy(results).values():
                _plot_curve(panel, curve, same_policy)
        column[0].set_title(f"{title}\n{_seeds(results)}", fontsize=10, y=TITLE_Y)
        column[-1].set_xlabel("epoch")
    for curve, panel in zip(CURVES, rows[:, 0], strict=True):
        panel.set_ylabel(curve.title)
    _add_curves_legend(figure, rows[0])
    return figure


def _add_curves_legend(figure: "Figure", panels: Sequence["Axes"]) -> None:
    lines: dict[Any, Any] = {}
    title = None
    for panel in panels:
        for line in panel.lines:
            lines[line.get_label()] = line
        if panel.collections:
            title = "Mean over seeds;\nband: their range"
    figure.legend(lines.values(), lines.keys(), loc="outside right center", frameon=False, title=title)


def _by_policy(results: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    by_policy: dict[str, list[FinishedRun]] = {}
    for result in results:
        by_policy.setdefault(result.augment, []).append(result)
    return by_policy


def _plot_curve(panel: "Axes", curve: Curve, results: Sequence[FinishedRun]) -> None:
    """Plot one quantity under one policy: the mean over seeds, and a band from the smallest to the largest."""
    augment = results[0].augment
    epochs = range(1, len(results[0].history) + 1)
    marker = "." if len(epochs) < MARKED_EPOCHS else None
    colour = COLOURS.get(augment, OTHER_COLOUR)
    for field, style, kind in ((curve.training, "--", "training"), (curve.test, "-", "test")):
        values = np.stack([_history_column(result, field) for result in results])
        label = f"{_policy(augment)}, {kind}"
        panel.plot(epochs, values.mean(axis=0), style, color=colour, label=label, marker=marker)
        if len(results) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            panel.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    panel.locator_params(axis="x", integer=True)
    panel.yaxis.set_major_formatter(curve.format)
    panel.grid(alpha=0.3)


def _history_column(result: FinishedRun, field: str) -> NDArray[np.float64]:
    """Return a quantity of every epoch, float64 (epochs,)."""
    return np.array([getattr(line, field) for line in result.history], np.float64)


def calibration(results: Sequence[FinishedRun]) -> "Figure":
    """Return how often the top class is right over its confidence: a line per run, a point per bin with images."""
    figure = _figure(7.2, 4.2)
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], color="#999999", linewidth=1, label="as good as it says")
    for result in results:
        bins = classification.reliability(result.probabilities, result.labels)
        used = bins.counts > 0
        colour = COLOURS.get(result.augment, OTHER_COLOUR)
        label = f"{_policy(result.augment)}, seed {result.seed}: ECE {result.scores.ece:.3f}"
        panel.plot(bins.confidence[used], bins.accuracy[used], marker="o", color=colour, label=label)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:.0%}")
    panel.set_xlabel("confidence of the top class")
    panel.set_ylabel("share that is right")
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    return figure


def confusion(results: Sequence[FinishedRun]) -> "Figure":
    """Return confusion matrices, in percent of each true class."""
    columns = min(len(results), MATRICES_PER_ROW)
    rows = math.ceil(len(results) / columns)
    figure = _figure(5.6 * columns + 0.4, 5.6 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(results) :]:
        panel.axis("off")
    for panel, result in zip(panels, results, strict=False):
        _plot_matrix(panel, result)
    title = f"{results[0].network}: predictions of the test images, % of each true class"
    _add_title(figure, title, results[0], "·: half a percent at most; blank: none. ")
    return figure


def _plot_matrix(panel: "Axes", result: FinishedRun) -> None:
    """Plot a confusion matrix, with a number in each field that has any images."""
    counts = result.scores.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        share = shares[row, column]
        text = f"{share * 100:.0f}" if share > 0.005 else "·"
        colour = "white" if share > 0.5 else "black"
        panel.text(column, row, text, ha="center", va="center", fontsize=8, color=colour, in_layout=False)
    names = list(result.metrics.per_class)
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
    panel.set_yticks(range(len(names)), names)
    panel.set_xlabel("predicted class")
    panel.set_ylabel("true class")
    panel.set_title(f"{_policy(result.augment)}, seed {result.seed}: {result.scores.accuracy:.1%}", y=TITLE_Y)


def misclassified(results: Sequence[FinishedRun], images: NDArray[np.uint8], pick: str) -> "Figure":
    """Return ten misclassified pictures of each run: true and predicted class, confidence, index in the test set."""
    figure = _figure(9.5, 5.6 * len(results) + 0.9)
    figure.set_layout_engine("constrained", h_pad=0.1)  # inches; else headings touch the pictures
    blocks = figure.subfigures(len(results), 1, squeeze=False)[:, 0]
    for block, result in zip(blocks, results, strict=True):
        wrong = result.scores.n - result.scores.correct
        counts = f"{wrong:,} of {result.scores.n:,} wrong, {PICKS[pick][0]}"
        block.suptitle(f"{_policy(result.augment)}, seed {result.seed}: {counts}", fontsize=10)
        panels = block.subplots(2, 5).ravel()
        for panel in panels:
            panel.axis("off")
        for panel, row in zip(panels, result.misclassified(pick), strict=False):
            _plot_picture(panel, images[row["index"]], row)
    _add_title(figure, f"{results[0].network}: misclassified test images", results[0])
    return figure


def _plot_picture(panel: "Axes", image: NDArray[np.uint8], row: Mapping[str, object]) -> None:
    panel.imshow(image, interpolation="nearest")
    panel.set_title(
        f"{row['true']}\ntaken for {row['predicted']}\n{row['confidence']:.1%} sure", fontsize=9, y=TITLE_Y
    )
    panel.text(0.5, -0.04, f"test image {row['index']}", transform=panel.transAxes, ha="center", va="top", fontsize=7)


def _figure(width: float, height: float) -> "Figure":
    """Return an empty figure; width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _add_title(figure: "Figure", title: str, result: FinishedRun, explanation: str = "") -> None:
    """Add a title above; below, how the figure is read, and what the runs were trained on."""
    recipe = result.run.recipe
    figure.suptitle(title, fontsize=12, fontweight="bold")
    trained = f"{result.metrics.n_train:,} training images, {recipe.epochs} epochs, batch {recipe.batch_size}."
    _add_footer(figure, f"{explanation}{caption_of(result.metrics)} {trained}")


def _add_footer(figure: "Figure", text: str) -> None:
    letters_per_line = int(figure.get_figwidth() * 17)
    figure.supxlabel(textwrap.fill(text, letters_per_line), fontsize=7, color="#555555")


def _policy(name: str) -> str:
    """Return a policy's name as figures show it."""
    if name == "none":
        return "plain"
    return name


def _seeds(results: Sequence[FinishedRun]) -> str:
    """Return the number of seeds in a column, by policy where they differ."""
    counts = {}
    for augment, same_policy in _by_policy(results).items():
        counts[_policy(augment)] = f"{len(same_policy)} seeds"
        if len(same_policy) == 1:
            counts[_policy(augment)] = f"seed {same_policy[0].seed}"
    if len(set(counts.values())) == 1:
        return next(iter(counts.values()))
    return "\n".join(f"{policy}: {count}" for policy, count in counts.items())
