"""What a report prints: one screen of 80 columns, details on request, Markdown."""

import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from cifar import export
from cifar.analysis.claims import PUBLISHED_TEXT
from cifar.analysis.summary import Summary, summarise
from cifar.data.dataset import Dataset
from cifar.report import captions, detail_tables, overview, progress, table, terminal
from cifar.report.html import page
from cifar.report.table import Table, narrowed, render
from cifar.runs.run import Run

PolicyRuns = dict[tuple[str, int], Run]
FIGURES = [Path("runs/figures/second-curves.png"), Path("runs/figures/second-misclassified.png")]
PAGE = Path("runs/report.html")

CELLS = st.lists(st.text("abc", min_size=1, max_size=30), max_size=6).map(" ".join)


def printed(summary: Summary, details: bool = False, images: Any = None, **settings: Any) -> str:
    """Return a report as a console of 80 columns prints it."""
    console = Console(file=io.StringIO(), width=80, **settings)
    terminal.show(console, summary, Path("runs"), "confident", images or {}, FIGURES, PAGE, details)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def with_epochs(summary: Summary, epochs: int) -> Summary:
    """Return a summary whose runs say that they had so many epochs."""
    for result in summary.results:
        changed = result.run.recipe.model_copy(update={"epochs": epochs})
        result.run.identity = result.run.identity.model_copy(update={"recipe": changed})
    return summary


def copied(run: Run, folder: Path) -> Run:
    """Return a copy of a run that a test may change."""
    return Run(Path(shutil.copytree(run.path, folder / run.path.name)))


def fresh(runs: list[Run]) -> Summary:
    """Return a summary of runs that a test may change."""
    return summarise([Run(run.path) for run in runs])


def test_a_report_of_six_runs_fits_one_screen(six_runs: list[Run]) -> None:
    lines = printed(fresh(six_runs)).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for label in ("first (32-64-64) none", "second (16-32-64) shift-flip", "third (32-64-128) shift-flip"):
        assert label in text
    assert text.count("SYNTHETIC DATA, not CIFAR-10") == 1
    assert "Page: runs/report.html" in text
    assert "Figures: 2, the first is runs/figures/second-curves.png" in text
    assert "Misclassified pictures: runs/figures/second-misclassified.png" in text


def test_a_short_training_gets_a_sentence_instead_of_gains_and_claims(six_runs: list[Run]) -> None:
    text = printed(with_epochs(fresh(six_runs), 5))
    sentence = "5 epochs cannot show an augmentation gain (at least 20 are needed)"
    assert sentence in " ".join(text.split())
    assert text.count("cannot show") == 1
    assert "too short to judge" not in text
    assert "Claims of the published text" not in text
    for line in text.splitlines():
        if "shift-flip " in line:
            assert line.split()[7:8] == ["-"]  # the gain


def test_a_long_training_has_a_verdict_per_claim(policy_runs: PolicyRuns) -> None:
    runs = [policy_runs[augment, seed] for augment in ("none", "shift-flip") for seed in (0, 1, 2)]
    text = printed(with_epochs(fresh(runs), 20))
    assert "cannot show" not in text
    assert "One seed" not in text
    *_, line = (line for line in text.splitlines() if line.startswith("second"))  # below the table of results
    network, augment, *verdicts = line.replace(" (16-32-64)", "").split()
    assert (network, augment, len(verdicts)) == ("second", "shift-flip", 5)
    assert set(verdicts) <= {"yes", "no", "?"}
    assert "Exploratory, not corrected for the number of claims." in text
    assert f"The published text: {PUBLISHED_TEXT}." in " ".join(text.split())


def test_one_seed_gets_a_sentence_instead_of_verdicts(six_runs: list[Run]) -> None:
    text = printed(with_epochs(fresh(six_runs), 20))
    assert "One seed cannot tell: no verdicts on claims for first, second, third." in " ".join(text.split())
    assert "Claims of the published text" not in text
    details = printed(with_epochs(fresh(six_runs), 20), details=True)
    assert details.count("one seed: cannot tell") == 15


def test_the_screen_shows_averages_gain_gap_and_sizes(
    policy_runs: PolicyRuns, small: Dataset, tmp_path: Path
) -> None:
    runs = [copied(policy_runs["none", 0], tmp_path), policy_runs["none", 1], policy_runs["flip", 0]]
    export.export_runs(runs[:1], small, ["onnx", "tflite"], runs[0].path / "exports")
    summary = with_epochs(fresh(runs), 20)
    group = summary.groups[0]
    plain, flip = group.averages()
    (gain,) = group.gains()
    half_width = (plain.interval[1] - plain.test.mean) * 100
    text = printed(summary)
    largest = max(entry.bytes for entry in summary.results[0].exports)
    plain_line, flip_line = (line for line in text.splitlines() if line.startswith("second (16-32-64)"))
    assert f" {plain.test.mean * 100:.1f} ± {half_width:.1f} " in plain_line
    assert f" {(plain.train - plain.test.mean) * 100:.1f} " in plain_line
    assert plain_line.split()[-1] == f"{largest / 1e6:.2f}"
    assert f" {flip.test.mean * 100:.1f} ± " in flip_line
    assert f" {gain.difference * 100:+.1f} ± " in flip_line
    assert f"Models: {runs[0].path.parent}/*/exports (onnx, tflite)" in text


def test_details_hold_every_table_and_each_note_once(six_runs: list[Run]) -> None:
    text = printed(fresh(six_runs), details=True)
    assert max(map(len, text.splitlines())) <= 80
    for title in ("Accuracy\n", "Augmentation gain\n", "Claims of the published text\n", "Misclassified by third"):
        assert title in text
    assert "Accuracy over seeds" not in text  # there is one seed
    flat = " ".join(text.split())
    assert flat.count("SYNTHETIC DATA, not CIFAR-10") == 1
    assert flat.count("McNemar's p speak of these two runs") == 1
    assert text.count("too short to judge") == 15


def test_training_that_no_export_counted_has_no_cost(pair: list[Run]) -> None:
    assert detail_tables.training_costs(summarise(pair)).rows == []


def test_exports_and_the_cost_of_training_stand_in_the_details(
    policy_runs: PolicyRuns, small: Dataset, tmp_path: Path
) -> None:
    run = copied(policy_runs["none", 0], tmp_path)
    export.export_runs([run], small, ["onnx-int8"], max_drop=100)
    summary = fresh([run])
    (int8,) = summary.groups[0].exported()
    images_trained = run.metrics.n_train * run.recipe.epochs
    assert summary.groups[0].training_flop == 6 * 6_499_840 * images_trained
    (cost,) = detail_tables.training_costs(summary).rows
    assert cost[:4] == ("second", "none", str(run.recipe.epochs), f"{6e-15 * 6_499_840 * images_trained:.2g}")
    assert f"{int8.change.mean * 100:+.2f}" in printed(summary, details=True)


def test_pictures_are_shown_where_they_fit_and_can_be_recognised(pair: list[Run], small: Dataset) -> None:
    images = {small.sha256: small.x_test}
    colours = {"force_terminal": True, "color_system": "truecolor"}
    summary = summarise(pair)
    assert "▀" in printed(summary, images=images, height=50, **colours)
    assert "▀" not in printed(summary, images=images, height=24, **colours)
    assert "▀" not in printed(summary, images=images, height=50, no_color=True, **colours)
    assert "▀" not in printed(summary, images=images)
    detailed = printed(summary, details=True, images=images, height=24, **colours)
    assert detailed.count("Misclassified, most confident first") == 2
    assert "Misclassified by" not in detailed  # a table, where there are no pictures
    assert "▀" in detailed


def test_pictures_in_the_terminal_have_the_colours_of_the_images() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :16] = (255, 0, 0)
    text = terminal.pictures(image[np.newaxis].repeat(7, axis=0), [("cat", "dog 99%")] * 7)
    first = text.plain.splitlines()[0]
    assert first == ("▀" * 15 + " ") * 5
    assert str(text.spans[0].style) == "rgb(255,0,0) on rgb(255,0,0)"
    assert str(text.spans[14].style) == "rgb(0,0,0) on rgb(0,0,0)"
    assert text.plain.count("cat") == text.plain.count("dog 99%") == 7


def test_columns_move_together_before_a_word_is_cut() -> None:
    def lines(word: str) -> list[str]:
        console = Console(file=io.StringIO(), width=80)
        long_text = "more words than can stand in a line " * 3
        console.print(render(Table("", ("a<", "b>", "c"), [(word, "2", long_text)])))
        return console.file.getvalue().splitlines()  # type: ignore[attr-defined]

    assert lines("x" * 70)[2].startswith("x" * 70 + "  2  ")
    assert lines("x" * 71)[2].startswith("x" * 71 + " 2 ")
    assert max(map(len, lines("x" * 71))) <= 80


@given(
    st.integers(1, 6).flatmap(
        lambda columns: st.lists(st.lists(CELLS, min_size=columns, max_size=columns), min_size=1)
    ),
    st.integers(20, 120),
)
def test_no_word_is_broken_or_lost_where_all_words_fit(rows: list[list[str]], width: int) -> None:
    """rich by itself shrinks columns below their longest word, and cuts off what a column of a fixed width lacks."""
    longest = [
        max(len(word) for cell in column for word in [*cell.split(), "h"]) for column in zip(*rows, strict=True)
    ]
    assume(sum(longest) + len(longest) - 1 <= width)
    console = Console(width=width, file=io.StringIO())
    console.print(render(Table("", ["h"] * len(longest), rows)))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert Counter(printed.split()) == Counter(
        " ".join(["h"] * len(longest) + [" ".join(row) for row in rows]).split()
    )
    assert max(map(len, printed.splitlines())) <= width


def test_a_narrow_terminal_leaves_out_columns_and_says_which() -> None:
    table = Table("t", ("name<", "a>", "b>", "c>"), [("word", "1", "22", "333")], ["*"])
    assert narrowed(table, 13, ["b>", "a>"]) == table
    assert narrowed(table, 12, ["missing", "b>", "a>"]) == Table(
        "t",
        ["name<", "a>", "c>"],
        [["word", "1", "333"]],
        ["Left out, since the terminal has 12 columns: b.", "*"],
    )
    assert narrowed(table, 3, ["b>", "a>"]).columns == ["name<", "c>"]


def test_markup_and_control_characters_are_shown_and_not_obeyed() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    console.print(render(Table("[bold]t", ("a",), [("[red]x\x1b[2J",)], ["[/bold] *"])))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]t" in text
    assert "[red]x?[2J" in text
    assert "[/bold] *" in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize(
    ("official", "words"), [(True, "Data: CIFAR-10 (sha"), (False, "not bit for bit the published one")]
)
def test_a_caption_says_whether_the_data_is_the_published_one(official: bool, words: str) -> None:
    assert words in captions.data_caption("cifar10", official, "a" * 64, 10_000)


def test_tables_as_markdown_have_a_cell_for_every_column(pair: list[Run]) -> None:
    text = table.markdown(detail_tables.markdown_tables(summarise(pair), "first"))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == text.count("## ") == 6
    assert all(line.count("|") == block[0].count("|") for block in blocks for line in block)
    accuracy = pair[0].metrics.accuracy
    assert f"| second | none | 0 | {accuracy:.1%} |" in text
    assert "--:" in blocks[0][1]
    assert "cannot show an augmentation gain" in text


def test_a_table_as_markdown_is_aligned_and_escaped() -> None:
    one = Table("a", ("b", "c>", "d<"), [("1", "2", "x|y")], ["*", "second"])
    assert table.markdown([one]) == (
        "## a\n\n| b | c | d |\n| :-- | --: | :-- |\n| 1 | 2 | x\\|y |\n\n\\*\n\nsecond\n"
    )


def test_steps_show_a_bar_in_a_terminal_and_nothing_elsewhere() -> None:
    for is_terminal in (True, False):
        console = Console(file=io.StringIO(), width=80, force_terminal=is_terminal)
        with progress.steps(console, "Drawing figures", 2) as advance:
            advance()
            advance(1)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert ("Drawing figures" in text) == is_terminal


def test_a_bar_learns_how_many_steps_there_are() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with progress.steps(console, "Diagnosing", None) as advance:
        for _ in range(3):
            advance(total=12)
    assert "3/12" in console.file.getvalue()  # type: ignore[attr-defined]


def test_runs_of_several_environments_are_not_compared_in_silence(pair: list[Run], tmp_path: Path) -> None:
    runs = [Run(Path(shutil.copytree(run.path, tmp_path / run.path.name))) for run in pair]
    assert captions.environment_captions(summarise(runs).results) == []
    recorded = runs[0].environment
    recorded["cpu"]["model"] = "another"
    (runs[0].path / "environment.json").write_text(json.dumps(recorded))
    (sentence,) = captions.environment_captions(summarise(runs).results)
    assert sentence.startswith("These runs were trained in 2 environments")
    assert sentence in overview.results(summarise(runs)).notes
    assert sentence in page.render(summarise(runs), {})
    (runs[0].path / "environment.json").write_text("[]")
    assert captions.environment_captions(summarise(runs).results) == [sentence]
