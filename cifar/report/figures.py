"""The report's figures as PNG files: curves, confusion matrices, misclassified pictures."""

import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar import files
from cifar.evaluation import PICKS
from cifar.report.result import Result
from cifar.report.summary import Group, Summary
from cifar.report.tables import data_caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c")
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
        with files.held(folder):
            files.write(folder / "curves.png", _png(overview(groups), histories=histories(groups)))
        written.append(folder / "curves.png")
    for group in groups:
        written += _draw(group.firsts(), group.results, folder, f"{group.name}-", pick, images)
    for result in summary.results:
        written += _draw([result], [result], result.run.path / "figures", "", pick, images)
    return written


def _draw(
    firsts: Sequence[Result],
    everyone: Sequence[Result],
    folder: Path,
    prefix: str,
    pick: str,
    images: dict[str, NDArray[np.uint8]],
) -> list[Path]:
    drawn = {"curves": curves(everyone), "confusion": confusion(firsts)}
    mine = firsts[0].pictures(images)
    if mine is not None:
        drawn["misclassified"] = misclassified(firsts, mine, pick)
    contents = {folder / f"{prefix}{name}.png": _png(figure) for name, figure in drawn.items()}
    with files.held(folder):
        for path, content in contents.items():
            files.write(path, content)
    return list(contents)


def histories(groups: Sequence[Group]) -> str:
    """SHA-256 over the histories of some networks: which ones a picture was drawn from, kept in the picture."""
    digests = [result.metrics["history_sha256"] for group in groups for result in group.results]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _png(figure: "Figure", **facts: str) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI, metadata={"Software": None, **facts})
    return stream.getvalue()


def overview(groups: Sequence[Group]) -> "Figure":
    """Learning curves of several networks, a column each, of the policies that all of them have."""
    common = _common(groups)
    shown = [[result for result in group.results if result.augment in common] for group in groups]
    figure = _curves({f"{group.name}, {_seeds(mine)}": mine for group, mine in zip(groups, shown, strict=True)})
    figure.supxlabel(data_caption(groups[0].results[0].metrics), fontsize=7, color="#555555")
    return figure


def curves(results: Sequence[Result]) -> "Figure":
    """Learning curves of one network, a column per policy; where there are plain runs, they stand in each."""
    plain = [result for result in results if result.augment == "none"]
    columns = {}
    for policy in _policies(results):
        mine = [result for result in results if result.augment == policy]
        if mine != plain:
            columns[f"{policy}, {_seeds(mine)}"] = [*plain, *mine]
    figure = _curves(columns or {f"plain, {_seeds(plain)}": plain})
    _head(figure, f"{results[0].network}: learning curves", results[0])
    return figure


def _curves(columns: dict[str, list[Result]]) -> "Figure":
    """Loss above accuracy over epochs: training dashed, test solid, a colour per policy, a line per seed."""
    policies = _policies([result for results in columns.values() for result in results])
    figure = _figure(max(2.4 * len(columns), 5.8) + 2.6, 6.0)
    rows = figure.subplots(len(CURVES), len(columns), sharex="col", sharey="row", squeeze=False)
    for (title, results), column in zip(columns.items(), rows.T, strict=True):
        for curve, panel in zip(CURVES, column, strict=True):
            _plot(panel, curve, results, policies)
        column[0].set_title(title, fontsize=10)
        column[-1].set_xlabel("epoch")
    for curve, panel in zip(CURVES, rows[:, 0], strict=True):
        panel.set_ylabel(curve.title)
    named = {line.get_label(): line for panel in rows[0] for line in panel.lines}
    figure.legend(named.values(), named.keys(), loc="outside right upper", frameon=False)
    return figure


def _policies(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.augment for result in results))


def _common(groups: Sequence[Group]) -> list[str]:
    """The policies that all groups have."""
    return [name for name in groups[0].policies if all(name in group.policies for group in groups)]


def _plot(panel: "Axes", curve: Curve, results: Sequence[Result], policies: Sequence[str]) -> None:
    """The lines of one quantity, a colour per policy."""
    for result in results:
        for column, style, kind in ((curve.training, "--", "training"), (curve.test, "-", "test")):
            panel.plot(
                [line.epoch for line in result.history],
                [getattr(line, column) for line in result.history],
                style,
                color=COLOURS[policies.index(result.augment) % len(COLOURS)],
                label=f"{_policy(result.augment)}, {kind}",
                marker="." if len(result.history) < 10 else None,
                linewidth=1.5 if len(results) < 3 else 0.8,
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
    _head(figure, title, results[0])
    return figure


def _matrix(panel: "Axes", result: Result) -> None:
    """A confusion matrix, a number in each field that anything went to."""
    names = list(result.metrics["per_class"])
    counts = result.scores.confusion
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(share):
        if counts[row, column]:
            panel.text(
                column,
                row,
                f"{value * 100:.0f}" if value >= 0.005 else "·",
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
    figure = _figure(9.5, 4.6 * len(results) + 0.7)
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


def _head(figure: "Figure", title: str, result: Result) -> None:
    """Title above; below, what it was trained on."""
    recipe = result.run.recipe
    figure.suptitle(title, fontsize=12, fontweight="bold")
    figure.supxlabel(
        f"{data_caption(result.metrics)} {result.metrics['n_train']:,} training images, "
        f"{recipe.epochs} epochs, batch {recipe.batch_size}.",
        fontsize=7,
        color="#555555",
    )


def _policy(name: str) -> str:
    return "plain" if name == "none" else name


def _seeds(results: Sequence[Result]) -> str:
    seeds = sorted({result.seed for result in results})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
