"""The report in a terminal or a log file: one screen of 80 columns; pictures where there is colour."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.text import Text

from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.summary import Summary
from cifar.errors import printable
from cifar.metrics.misclassified import PICKS
from cifar.report import detail_tables, overview
from cifar.report.table import render

PICTURE_WIDTH, PICTURE_HEIGHT = 15, 16  # of a picture in the terminal, in half-block pixels
PER_ROW = 5  # pictures side by side in 80 columns
MIN_LINES_FOR_PICTURES = 40  # of a terminal that shows a row of pictures beside the one screen

Images = Mapping[str, NDArray[np.uint8]]
"""Test images, uint8 (N, 32, 32, 3), by data digest."""


def show(
    console: Console,
    summary: Summary,
    folder: Path,
    pick: str,
    images: Images,
    figures: Sequence[Path],
    page: Path | None = None,
    details: bool = False,
) -> None:
    """Print a report, which ends with one screen.

    Args:
        console: on stdout.
        summary: with at least one finished run.
        folder: the folder of runs, or the run.
        pick: a rule of misclassified.PICKS.
        images: runs on other data are shown without pictures.
        figures: the files that were drawn.
        page: the HTML file that was written.
        details: whether everything else is printed before the one screen.
    """
    if details:
        _show_details(console, summary, pick, images)
    elif console.height >= MIN_LINES_FOR_PICTURES:
        first = summary.results[0]
        own_images = first.test_images(images)
        if own_images is not None and _has_colours(console):
            _show_pictures(console, first, pick, own_images, PER_ROW)
    console.print(render(overview.results(summary)))
    claims = overview.claims(summary.groups)
    console.print()
    if claims.rows:
        console.print(render(claims), "")
    for sentence in overview.sentences_without_verdicts(summary.groups):
        console.print(Text(printable(sentence)))
    for run in summary.unfinished:
        _print_line(console, f"Not in the report: {run.path} is {run.status}.")
    for run in summary.held_out:
        _print_line(console, f"Not in the report: {run.path} scored held-out training images.")
    for line in _places(summary, figures, page):
        _print_line(console, line)
    if not details:
        _print_line(console, f"Every run, format, check and picture: cifar report {folder} --details")


def _show_details(console: Console, summary: Summary, pick: str, images: Images) -> None:
    """Print the detailed tables and the misclassified images, then the notes of all tables."""
    detailed = detail_tables.details(summary)
    for table in detail_tables.without_notes(detailed):
        console.print(render(table), "")
    for result in summary.first_seed_results():
        own_images = result.test_images(images)
        if own_images is not None and _has_colours(console):
            _show_pictures(console, result, pick, own_images)
        else:
            console.print(render(detail_tables.misclassified(result, pick)), "")
    for note in detail_tables.legend(detailed):
        console.print(Text(printable(note), "table.caption"))
    console.print()


def _show_pictures(
    console: Console, result: FinishedRun, pick: str, images: NDArray[np.uint8], count: int = 2 * PER_ROW
) -> None:
    """Print a run's first misclassified images with their true and predicted classes."""
    rows = result.misclassified(pick)[:count]
    name = f"{result.network} {result.augment} seed {result.seed}"
    heading = f"Misclassified, {PICKS[pick][0]}: {name} (class →predicted)"
    console.print(heading, style="italic", highlight=False, markup=False)
    captions = []
    for row in rows:
        captions.append((row["true"], f"→{row['predicted']} {row['confidence']:.0%}"))
    console.print(pictures(images[[row["index"] for row in rows]], captions))


def pictures(images: NDArray[np.uint8], captions: Sequence[tuple[str, str]]) -> Text:
    """Return pictures side by side, two pixels to a character, each above a caption of two lines.

    Args:
        images: uint8 (N, 32, 32, 3).
        captions: two short texts per picture.
    """
    text = Text()
    for start in range(0, len(images), PER_ROW):
        _append_pixels(text, images[start : start + PER_ROW])
        for lines in zip(*captions[start : start + PER_ROW], strict=True):
            cells = [f"{line[:PICTURE_WIDTH]:{PICTURE_WIDTH}}" for line in lines]
            text.append(" ".join(cells).rstrip() + "\n")
        text.append("\n")
    return text


def _append_pixels(text: Text, images: NDArray[np.uint8]) -> None:
    """Append a row of pictures: a character holds an upper pixel in its foreground, a lower in its background."""
    small = []
    for image in images:
        resized = Image.fromarray(image).resize((PICTURE_WIDTH, PICTURE_HEIGHT), Image.Resampling.BOX)
        small.append(np.asarray(resized))
    for y in range(0, PICTURE_HEIGHT, 2):
        for picture in small:
            for upper, lower in zip(picture[y], picture[y + 1], strict=True):
                text.append("▀", style=f"rgb({_rgb(upper)}) on rgb({_rgb(lower)})")
            text.append(" ")
        text.append("\n")


def _rgb(pixel: NDArray[np.uint8]) -> str:
    return ",".join(map(str, pixel.tolist()))


def _places(summary: Summary, figures: Sequence[Path], page: Path | None) -> list[str]:
    """Return where the page, figures and models are."""
    lines = []
    if page is not None:
        lines.append(f"Page: {page}")
    if figures:
        lines.append(f"Figures: {len(figures)}, the first is {figures[0]}")
    misclassified = [path for path in figures if path.name.endswith("misclassified.png")]
    if misclassified:
        lines.append(f"Misclassified pictures: {misclassified[0]}")
    lines += _models_line(summary.results)
    return lines


def _models_line(results: Sequence[FinishedRun]) -> list[str]:
    """Return where exported files are; nothing if no run has any."""
    for result in results:
        folder = result.run.path / "exports"
        formats = [entry.format for entry in result.exports if (folder / entry.file).exists()]
        if formats:
            if len(results) > 1:
                folder = result.run.path.parent / "*" / "exports"
            return [f"Models: {folder} ({', '.join(sorted(formats))})"]
    return []


def _has_colours(console: Console) -> bool:
    """Whether pictures can be recognised: sixteen colours are too few."""
    return console.is_terminal and not console.no_color and console.color_system in ("256", "truecolor")


def _print_line(console: Console, text: str) -> None:
    console.print(printable(text), highlight=False, markup=False, soft_wrap=True)
