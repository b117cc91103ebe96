"""The report in a terminal or a log file: tables that fit 80 columns, pictures where there is colour."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.text import Text

from cifar.analysis.finished_run import Result
from cifar.analysis.summary import Summary
from cifar.errors import printable
from cifar.metrics.classification import PICKS
from cifar.report import tables
from cifar.report.table import render

WIDTH, HEIGHT = 15, 16  # of a picture in the terminal, in half-block pixels
ACROSS = 5  # pictures side by side in 80 columns


def pictures(images: NDArray[np.uint8], captions: Sequence[tuple[str, str]]) -> Text:
    """Pictures side by side, two pixels to a character, each above a caption of two lines.

    Args:
        images: uint8, (N, 32, 32, 3).
        captions: two short texts per picture.
    """
    text = Text()
    both = list(zip(images, captions, strict=True))
    for row in (both[start : start + ACROSS] for start in range(0, len(both), ACROSS)):
        small = [np.asarray(Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.BOX)) for image, _ in row]
        for y in range(0, HEIGHT, 2):
            for picture in small:
                for upper, lower in zip(picture[y], picture[y + 1], strict=True):
                    text.append("▀", style=f"rgb({_rgb(upper)}) on rgb({_rgb(lower)})")
                text.append(" ")
            text.append("\n")
        for line in (0, 1):
            text.append(" ".join(f"{caption[line][:WIDTH]:{WIDTH}}" for _, caption in row).rstrip() + "\n")
        text.append("\n")
    return text


def show(console: Console, summary: Summary, pick: str, images: dict[str, NDArray[np.uint8]]) -> None:
    """Print the whole report.

    Args:
        console: on stdout.
        summary: with at least one result.
        pick: a rule of evaluation.PICKS.
        images: test images by data digest; runs on other data get their pictures' indices alone.
    """
    for group in summary.groups:
        for section in tables.figures_of(group):
            console.print(render(section), "")
        for result in group.first_seed_results():
            mine = result.pictures(images)
            if mine is not None and _has_colours(console):
                _show_pictures(console, result, pick, mine)
            else:
                console.print(render(tables.misclassified(result, pick)), "")
    if between := summary.between_backends():
        console.print(render(tables.backends(between)), "")
    for run in summary.unfinished:
        text = printable(f"Not in the report: {run.path} is {run.status}.")
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _show_pictures(console: Console, result: Result, pick: str, images: NDArray[np.uint8]) -> None:
    rows = result.misclassified(pick)
    name = f"{result.network} {result.augment} seed {result.seed}"
    console.print(f"Wrong, {PICKS[pick][0]}: {name} (class →answer)", style="italic", highlight=False, markup=False)
    captions = [(row["true"], f"→{row['predicted']} {row['confidence']:.0%}") for row in rows]
    console.print(pictures(images[[row["index"] for row in rows]], captions))


def _has_colours(console: Console) -> bool:
    """Whether a picture can be made out: sixteen colours are too few."""
    return console.is_terminal and not console.no_color and console.color_system in ("256", "truecolor")


def _rgb(pixel: NDArray[np.uint8]) -> str:
    return ",".join(str(int(value)) for value in pixel)
