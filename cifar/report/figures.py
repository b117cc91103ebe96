"""The report's figures as PNG files: curves, confusion matrices, misclassified pictures."""

import hashlib
import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar.analysis.finished_run import Result
from cifar.analysis.summary import Group, Summary
from cifar.metrics.classification import PICKS
from cifar.recipes import POLICIES
from cifar.report.tables import caption_of
from cifar.system import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = dict(
    zip(
        POLICIES,
        ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c"),
        strict=True,
    )
)
"""A policy has the same one in every figure."""
DPI = 110
ACROSS = 3  # confusion matrices side by side


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


def draw_all(
    summary: Summary, folder: Path, pick: str, images: dict[str, NDArray[np.uint8]], networks: bool = True
) -> list[Path]:
    """Draw what a report shows: all networks and each into `folder`; each run into its figures/.

    Args:
        summary: of the runs.
        folder: for the figures of the networks.
        pick: a rule of evaluation.PICKS.
        images: test images by data digest; a run on other data gets no pictures.
        networks: False for the figures of the runs alone.

    Returns:
        The files written.

    Raises:
        StorageError: one cannot be written.
    """
    written = []
    groups = summary.groups if networks else []
    if len(groups) > 1 and _common(groups):
        with files.locked_dir(folder):
            files.write(folder / "curves.png", _png(overview(groups), histories=histories(groups)))
        written.append(folder / "curves.png")
    for group in groups:
        written += _draw(group.first_seed_results(), group.results, folder, f"{group.name}-", pick, images)
    for result in summary.results:
        written += _draw([result], [result], result.run.path / "figures", "", pick, images)
    return written


def _draw(
    first_seed_results: Sequence[Result],
    everyone: Sequence[Result],
    folder: Path,
    prefix: str,
    pick: str,
    images: dict[str, NDArray[np.uint8]],
) -> list[Path]:
    drawn = {"curves": curves(everyone), "confusion": confusion(first_seed_results)}
    mine = first_seed_results[0].pictures(images)
    if mine is not None:
        drawn["misclassified"] = misclassified(first_seed_results, mine, pick)
    contents = {folder / f"{prefix}{name}.png": _png(figure) for name, figure in drawn.items()}
    with files.locked_dir(folder):
        for path, content in contents.items():
            files.write(path, content)
    return list(contents)


def histories(groups: Sequence[Group]) -> str:
    """SHA-256 over the histories of some networks: which ones a picture was drawn from, kept in the picture."""
    digests = [result.metrics.history_sha256 for group in groups for result in group.results]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _png(figure: "Figure", **facts: str) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI, metadata={"Software": None, **facts})
    return stream.getvalue()


def overview(groups: Sequence[Group]) -> "Figure":
    """Learning curves of several networks, a column each, of the policies that all of them have."""
    common = _common(groups)
    figure = _curves({group.name: [it for it in group.results if it.augment in common] for group in groups})
    _foot(figure, " ".join(dict.fromkeys(caption_of(group.results[0].metrics) for group in groups)))
    return figure


def _common(groups: Sequence[Group]) -> list[str]:
    """The policies that all groups have."""
    return [name for name in groups[0].policies if all(name in group.policies for group in groups)]


def curves(results: Sequence[Result]) -> "Figure":
    """Learning curves of one network, a column per policy; where there are plain runs, they stand in each."""
    others = _by_policy(results)
    plain = others.pop("none", [])
    figure = _curves({policy: [*plain, *mine] for policy, mine in others.items()} or {"plain": plain})
    _head(figure, f"{results[0].network}: learning curves", results[0])
    return figure


def _curves(columns: dict[str, list[Result]]) -> "Figure":
    """Loss above accuracy over epochs: training dashed, test solid, a colour per policy; means over seeds."""
    figure = _figure(max(2.4 * len(columns), 5.8) + 2.6, 6.2)
    rows = figure.subplots(len(CURVES), len(columns), sharex="col", sharey="row", squeeze=False)
    for (title, results), column in zip(columns.items(), rows.T, strict=True):
        for curve, panel in zip(CURVES, column, strict=True):
            for mine in _by_policy(results).values():
                _plot(panel, curve, mine)
        column[0].set_title(f"{title}\n{_seeds(results)}", fontsize=10)
        column[-1].set_xlabel("epoch")
    for curve, panel in zip(CURVES, rows[:, 0], strict=True):
        panel.set_ylabel(curve.title)
    named = {line.get_label(): line for panel in rows[0] for line in panel.lines}
    several = any(panel.collections for panel in rows[0])
    figure.legend(
        named.values(),
        named.keys(),
        loc="outside right upper",
        frameon=False,
        title="Mean over seeds;\nband: their range" if several else None,
    )
    return figure


def _by_policy(results: Sequence[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.augment, []).append(result)
    return found


def _plot(panel: "Axes", curve: Curve, results: Sequence[Result]) -> None:
    """One quantity under one policy: the mean over seeds, and a band from the smallest to the largest."""
    epochs = [line.epoch for line in results[0].history]
    augment = results[0].augment
    for column, style, kind in ((curve.training, "--", "training"), (curve.test, "-", "test")):
        values = np.array([[getattr(line, column) for line in result.history] for result in results])
        panel.plot(
            epochs,
            values.mean(axis=0),
            style,
            color=COLOURS.get(augment),
            label=f"{_policy(augment)}, {kind}",
            marker="." if len(epochs) < 10 else None,
        )
        if len(results) > 1:
            panel.fill_between(
                epochs, values.min(axis=0), values.max(axis=0), color=COLOURS.get(augment), alpha=0.2, linewidth=0
            )
    panel.locator_params(axis="x", integer=True)
    panel.yaxis.set_major_formatter(curve.format)
    panel.grid(alpha=0.3)


def confusion(results: Sequence[Result]) -> "Figure":
    """Confusion matrices, in percent of each true class."""
    across = min(len(results), ACROSS)
    down = math.ceil(len(results) / across)
    figure = _figure(5.6 * across + 0.4, 5.6 * down + 0.4)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(results) :]:
        panel.axis("off")
    for panel, result in zip(panels, results, strict=False):
        _matrix(panel, result)
    title = f"{results[0].network}: where the test images go, % of each true class"
    _head(figure, title, results[0], "·: half a percent at most; blank: none. ")
    return figure


def _matrix(panel: "Axes", result: Result) -> None:
    """A confusion matrix, a number in each field that anything went to."""
    names = list(result.metrics.per_class)
    counts = result.scores.confusion
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(share):
        if counts[row, column]:
            panel.text(
                column,
                row,
                f"{value * 100:.0f}" if value > 0.005 else "·",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value > 0.5 else "black",
            )
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
    panel.set_yticks(range(len(names)), names)
    panel.set_xlabel("predicted class")
    panel.set_ylabel("true class")
    panel.set_title(f"{_policy(result.augment)}, seed {result.seed}: {result.scores.accuracy:.1%}")


def misclassified(results: Sequence[Result], images: NDArray[np.uint8], pick: str) -> "Figure":
    """Ten misclassified pictures of each result: true class, answer, confidence, index in the test set."""
    figure = _figure(9.5, 5.6 * len(results) + 0.9)
    figure.set_layout_engine("constrained", h_pad=0.1)  # inches; else headings touch what they head
    blocks = figure.subfigures(len(results), 1, squeeze=False)[:, 0]
    for block, result in zip(blocks, results, strict=True):
        block.suptitle(
            f"{_policy(result.augment)}, seed {result.seed}: "
            f"{result.scores.n - result.scores.correct:,} of {result.scores.n:,} wrong, {PICKS[pick][0]}",
            fontsize=10,
        )
        panels = block.subplots(2, 5).ravel()
        for panel in panels:
            panel.axis("off")
        for panel, row in zip(panels, result.misclassified(pick), strict=False):
            _picture(panel, images[row["index"]], row)
    _head(figure, f"{results[0].network}: test images that it gets wrong", results[0])
    return figure


def _picture(panel: "Axes", image: NDArray[np.uint8], row: dict[str, object]) -> None:
    panel.imshow(image, interpolation="nearest")
    panel.set_title(f"{row['true']}\ntaken for {row['predicted']}\n{row['confidence']:.1%} sure", fontsize=9)
    panel.text(0.5, -0.04, f"test image {row['index']}", transform=panel.transAxes, ha="center", va="top", fontsize=7)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _head(figure: "Figure", title: str, result: Result, explained: str = "") -> None:
    """Title above; below, how it is read, and what it was trained on."""
    recipe = result.run.recipe
    figure.suptitle(title, fontsize=12, fontweight="bold")
    trained = f"{result.metrics.n_train:,} training images, {recipe.epochs} epochs, batch {recipe.batch_size}."
    _foot(figure, f"{explained}{caption_of(result.metrics)} {trained}")


def _foot(figure: "Figure", text: str) -> None:
    letters = int(figure.get_figwidth() * 17)  # to a line
    figure.supxlabel(textwrap.fill(text, letters), fontsize=7, color="#555555")


def _policy(name: str) -> str:
    return "plain" if name == "none" else name


def _seeds(results: Sequence[Result]) -> str:
    """How many seeds a column holds, policy by policy where they differ."""
    counts = {
        _policy(augment): f"seed {mine[0].seed}" if len(mine) == 1 else f"{len(mine)} seeds"
        for augment, mine in _by_policy(results).items()
    }
    if len(set(counts.values())) == 1:
        return next(iter(counts.values()))
    return "\n".join(f"{policy}: {count}" for policy, count in counts.items())
