"""The report in a terminal or a log file: tables that fit 80 columns, pictures where there is colour."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cifar.errors import printable
from cifar.evaluation import PICKS
from cifar.records import Proof
from cifar.report.summary import Claim, Gain, Result, Summary

WIDTH, HEIGHT = 15, 16  # of a picture in the terminal, in half-block pixels
ACROSS = 5  # pictures side by side in 80 columns


def data_caption(metrics: dict[str, Any]) -> str:
    """What every table says of its data."""
    if metrics["dataset"] == "synthetic":
        return f"SYNTHETIC DATA, not CIFAR-10: {metrics['n_test']:,} drawn test images."
    whose = "CIFAR-10" if metrics["official"] else "a copy of CIFAR-10 that is not bit for bit the published one"
    return f"Data: {whose} (sha256 {metrics['data_sha256'][:12]}), {metrics['n_test']:,} test images."


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> Table:
    """A plain table; columns whose name ends with '>' are right-aligned and never cut, others fold if they must.

    Texts are shown as they are: a path may look like rich's markup, or hold control characters.
    """
    made = Table(title_justify="left", caption_justify="left", box=None, pad_edge=False)
    made.title, made.caption = Text(printable(title), "table.title"), Text(printable(caption), "table.caption")
    for column in columns:
        right = column.endswith(">")
        made.add_column(column.rstrip(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def results_table(results: Sequence[Result]) -> Table:
    """Accuracy of every run."""
    rows = [
        (
            result.run.recipe.network,
            result.augment,
            str(result.seed),
            f"{result.scores.accuracy:.1%}",
            _span(result.scores.interval),
            f"{result.late('test_accuracy'):.1%}" if len(result.history) >= 5 else "-",
            f"{result.metrics['train_accuracy_clean']:.1%}",
            f"{result.scores.loss:.3f}",
            f"{result.scores.ece:.3f}",
        )
        for result in results
    ]
    columns = ("network", "augment", "seed>", "test>", "95 %>", "last 5>", "train>", "loss>", "ECE>")
    caption = (
        "test: accuracy after the last epoch, with Wilson's interval. last 5: its mean over the last five epochs. "
        "train: on the clean training images. " + data_caption(results[0].metrics)
    )
    return table("Accuracy", columns, rows, caption)


def gains_table(gains: Sequence[Gain], caption: str) -> Table:
    """What augmentation buys."""
    rows = [
        (
            gain.network,
            gain.augment,
            f"{gain.plain:.1%}",
            f"{gain.augmented:.1%}",
            f"{gain.difference * 100:+.1f}",
            f"{gain.interval[0] * 100:+.1f} to {gain.interval[1] * 100:+.1f}" if gain.interval else "-",
            "-" if gain.p_value is None else f"{gain.p_value:.1g}",
            f"{gain.late_difference * 100:+.1f}",
            str(len(gain.seeds)),
        )
        for gain in gains
    ]
    columns = ("network", "augment", "plain>", "augm.>", "gain>", "95 %>", "p>", "last 5>", "seeds>")
    explained = (
        "gain: points of test accuracy after the last epoch. With one seed its interval and McNemar's p speak of "
        "these two runs on these images, not of other seeds. last 5: gain of the means over the last five epochs. "
    )
    return table("What augmentation buys", columns, rows, explained + caption)


def claims_table(claims: Sequence[Claim]) -> Table:
    """The claims of the published text."""
    made = table("Claims of the published text", ("network", "claim and figures", "verdict"), [])
    made.columns[2].no_wrap = True
    for claim in claims:
        made.add_row(claim.network, f"{claim.claim}: {claim.figures}", claim.verdict)
    return made


def proofs_table(proofs: Sequence[tuple[str, Proof]]) -> Table:
    """What `cifar verify` found, by the run's name."""
    made = table("Proof", ("run", "rung", "found"), [])
    made.columns[1].no_wrap = True
    for name, proof in proofs:
        made.add_row(
            name,
            proof.rung,
            f"{proof.result}: {proof.words}. {proof.verified[:10]}, {_commit(proof.commit)}",
        )
    return made


def misclassified_table(result: Result, pick: str) -> Table:
    """The ten misclassified pictures in words."""
    rows = [
        (str(row["index"]), row["true"], row["predicted"], f"{row['confidence']:.1%}")
        for row in result.misclassified(pick)
    ]
    title = f"Misclassified by {result.run.recipe.network} {result.augment} seed {result.seed}, {PICKS[pick][0]}"
    return table(title, ("image>", "true", "predicted", "confidence>"), rows)


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
        caption = data_caption(group.results[0].metrics)
        console.print(results_table(group.results), "")
        if gains := group.gains():
            console.print(gains_table(gains, caption), "")
            console.print(claims_table(group.claims()), "")
        proofs = [(result.run.path.name, proof) for result in group.results for proof in result.proofs]
        if proofs:
            console.print(proofs_table(proofs), "")
        for augment in group.policies:
            result = min(group.of(augment).items())[1]
            mine = result.pictures(images)
            if mine is not None and _has_colours(console):
                _show_pictures(console, result, pick, mine)
            else:
                console.print(misclassified_table(result, pick), "")
    for run in summary.unfinished:
        text = printable(f"Not in the report: {run.path} is {run.status}.")
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _show_pictures(console: Console, result: Result, pick: str, images: NDArray[np.uint8]) -> None:
    rows = result.misclassified(pick)
    name = f"{result.run.recipe.network} {result.augment} seed {result.seed}"
    console.print(f"Wrong, {PICKS[pick][0]}: {name} (class →answer)", style="italic", highlight=False, markup=False)
    captions = [(row["true"], f"→{row['predicted']} {row['confidence']:.0%}") for row in rows]
    console.print(pictures(images[[row["index"] for row in rows]], captions))


def _has_colours(console: Console) -> bool:
    """Whether a picture can be made out: sixteen colours are too few."""
    return console.is_terminal and not console.no_color and console.color_system in ("256", "truecolor")


def _rgb(pixel: NDArray[np.uint8]) -> str:
    return ",".join(str(int(value)) for value in pixel)


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0] * 100:.1f} to {interval[1] * 100:.1f}"


def _commit(commit: str | None) -> str:
    """A commit in short, with its `-dirty`."""
    return "no commit" if commit is None else commit[:7] + "-dirty" * commit.endswith("-dirty")
