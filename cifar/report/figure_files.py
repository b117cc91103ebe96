"""Which figures a report draws, and their files."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.groups import Group
from cifar.analysis.summary import Summary
from cifar.report import plots, progress
from cifar.system import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
Images = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Drawing:
    """A figure to be drawn.

    Attributes:
        path: its PNG file.
        plot: returns the figure.
        metadata: texts that are kept in the file.
    """

    path: Path
    plot: Callable[[], "Figure"]
    metadata: Mapping[str, str] = field(default_factory=dict)


def draw_all(
    summary: Summary,
    folder: Path,
    pick: str,
    images: Images,
    networks: bool = True,
    console: Console | None = None,
) -> list[Path]:
    """Draw the figures of networks, each over its runs, or those of single runs.

    Args:
        summary: of the runs.
        folder: for the figures of the networks.
        pick: a rule of misclassified.PICKS.
        images: test images by data digest; a run on other data gets no pictures.
        networks: False draws the figures of each run instead, into its folder `figures`.
        console: shows the progress.

    Returns:
        The files written.

    Raises:
        cifar.errors.StorageError: a file cannot be written.
    """
    drawings = []
    if networks:
        drawings += _drawings_of_networks(summary.groups, folder, pick, images)
    else:
        for result in summary.results:
            drawings += _drawings([result], [result], result.run.path / "figures", "", pick, images)
    with progress.steps(console or Console(quiet=True), "Drawing figures", len(drawings)) as advance:
        for drawing in drawings:
            content = _png(drawing.plot(), drawing.metadata)
            with files.locked_dir(drawing.path.parent):
                files.write(drawing.path, content)
            advance()
    return [drawing.path for drawing in drawings]


def _drawings_of_networks(groups: Sequence[Group], folder: Path, pick: str, images: Images) -> list[Drawing]:
    drawings = []
    compared = [group for group in groups if group.pairs] or groups
    if len(compared) > 1 and plots.common_policies(compared):
        metadata = {"histories": histories(compared)}
        drawings.append(Drawing(folder / "curves.png", partial(plots.overview, compared), metadata))
    for group in groups:
        prefix = f"{group.name}-"
        drawings += _drawings(group.results, group.first_seed_results(), folder, prefix, pick, images)
    return drawings


def _drawings(
    results: Sequence[FinishedRun],
    first_seed_results: Sequence[FinishedRun],
    folder: Path,
    prefix: str,
    pick: str,
    images: Images,
) -> list[Drawing]:
    """Return the figures of one network: curves of all its runs, all else of each policy's first seed."""
    drawings = [
        Drawing(folder / f"{prefix}curves.png", partial(plots.curves, results)),
        Drawing(folder / f"{prefix}confusion.png", partial(plots.confusion, first_seed_results)),
    ]
    own_images = first_seed_results[0].test_images(images)
    if own_images is not None:
        plot = partial(plots.misclassified, first_seed_results, own_images, pick)
        drawings.append(Drawing(folder / f"{prefix}misclassified.png", plot))
    return drawings


def histories(groups: Sequence[Group]) -> str:
    """Return the SHA-256 over the histories of some networks: a picture of curves keeps what it was drawn from."""
    digest = hashlib.sha256()
    for group in groups:
        for result in group.results:
            digest.update(result.metrics.history_sha256.encode())
    return digest.hexdigest()


def _png(figure: "Figure", metadata: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI, metadata={"Software": None, **metadata})
    return stream.getvalue()
