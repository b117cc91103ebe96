"""The report as a page: it sorts, filters and shows the pictures that numpy finds, and does nothing else."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Command
from helpers.hostile_run import HOSTILE, hostile_copy
from numpy.typing import NDArray

from browser.conftest import WIDTHS, Watched
from cifar.analysis.summary import Summary, summarise
from cifar.compare import benchmark_results
from cifar.data.dataset import Dataset
from cifar.formats.top1 import Top1
from cifar.report.html import content, page

BENCHMARK = ROOT / "bench" / "history" / "0.1.0.json"
INTERACTIVE = "a[href], button:not([hidden]), select, input, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def report_path(summary: Summary, small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    page.write(summary, {small.sha256: small.x_test}, path, benchmark_results.read(BENCHMARK))
    return path


@pytest.fixture
def report(report_path: Path, watched: Watched) -> Iterator[Watched]:
    """The report, opened; whatever a test does with it, the page neither complains nor asks for anything."""
    watched.open(report_path)
    yield watched
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith("data:")] == [report_path.as_uri()]


def column(report: Watched, grid: str, name: str) -> list[str]:
    """The texts of a column of a table, of the rows that are shown."""
    headings = report.page.locator(f"#{grid} thead th").all_inner_texts()
    number = [heading.strip(" ▲▼") for heading in headings].index(name)
    shown = report.page.locator(f"#{grid} tbody tr:not([hidden]) td:nth-child({number + 1})")
    return [str(text) for text in shown.all_inner_texts()]


def predictions(summary: Summary, small: Dataset) -> dict[str, Top1]:
    """What every run and integer file says, by the name that the page shows."""
    (test_set,) = content.test_sets(summary, {small.sha256: small.x_test})
    return test_set.predictions


def shown_images(report: Watched, gallery: str) -> list[int]:
    """The indices of all images of a gallery."""
    more = report.page.locator(f"#{gallery}-more")
    while more.is_visible():
        more.click()
    texts = report.page.locator(f"#{gallery}-gallery .index").all_inner_texts()
    return [int(text.removeprefix("image ")) for text in texts]


def test_a_column_sorts_by_its_values_up_and_down(report: Watched) -> None:
    header = report.page.locator("#benchmark th", has_text="p50 ms")
    header.locator("button").click()
    ascending = [float(text) for text in column(report, "benchmark", "p50 ms")]
    assert ascending == sorted(ascending)
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").click()
    assert [float(text) for text in column(report, "benchmark", "p50 ms")] == ascending[::-1]
    assert header.get_attribute("aria-sort") == "descending"


def test_a_filter_leaves_the_rows_of_its_value_and_counts_them(report: Watched) -> None:
    everything = column(report, "benchmark", "format")
    report.page.locator("#benchmark select").nth(1).select_option("onnx-int8")
    shown = column(report, "benchmark", "format")
    assert set(shown) == {"onnx-int8"}
    assert len(shown) == everything.count("onnx-int8")
    assert report.page.locator("#benchmark .count").inner_text() == f"{len(shown)} of {len(everything)}"


def test_a_cell_of_the_confusion_matrix_opens_its_pictures(report: Watched, summary: Summary, small: Dataset) -> None:
    name, said = next(iter(predictions(summary, small).items()))
    cell = report.page.locator("#confusion button").first
    count, description = int(cell.inner_text()), cell.get_attribute("aria-label")
    cell.click()
    images = shown_images(report, "wrong")
    assert len(images) == count, name
    _, _, words = description.partition(": ")
    true, _, predicted = words.partition(" taken for ")
    names = list(summary.results[0].metrics.per_class)
    for index in images:
        assert (names[small.y_test[index]], names[said.classes[index]]) == (true, predicted)
    matrix = report.page.locator("#confusion tbody tr").all_inner_texts()
    rights = [row.split("\t")[-1] for row in matrix]
    per_class = list(summary.results[0].metrics.per_class.values())
    assert rights == [f"{100 * share:.1f}" for share in per_class]


def test_the_page_opens_with_ten_pictures_of_each_gallery_and_the_counts_of_numpy(
    report: Watched, summary: Summary, small: Dataset
) -> None:
    first, second, *_ = (said.classes for said in predictions(summary, small).values())
    wrong, changed = (first != small.y_test).sum(), (first != second).sum()
    assert report.page.locator("#wrong-count").inner_text().startswith(f"{wrong} misclassified images")
    assert report.page.locator("canvas").count() == min(10, wrong) + min(10, changed)


def test_the_flips_of_any_two_are_those_that_numpy_finds(report: Watched, summary: Summary, small: Dataset) -> None:
    said = predictions(summary, small)
    names = list(said)
    assert len(names) == 3
    for first in range(len(names)):
        for second in range(len(names)):
            report.page.locator("#flip-first").select_option(str(first))
            report.page.locator("#flip-second").select_option(str(second))
            a, b = said[names[first]].classes, said[names[second]].classes
            masks = flips(a, b, small.y_test)
            changed, lost, won = (masks[kind].sum() for kind in ("", "lost", "won"))
            for kind, mask in masks.items():
                report.page.locator("#flip-kind").select_option(kind)
                sentence = report.page.locator("#flip-count").inner_text()
                counts = f"{changed} of 100 images change their class: {lost} right to wrong, {won} wrong to right"
                assert sentence.startswith(counts)
                assert shown_images(report, "flip") == np.flatnonzero(mask).tolist()


def flips(a: NDArray[np.uint8], b: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    """Which images change their class, by the value of the page's choice."""
    changed = a != b
    return {
        "": changed,
        "lost": changed & (a == labels),
        "won": changed & (b == labels),
        "other": changed & (a != labels) & (b != labels),
    }


def test_the_keyboard_alone_reaches_everything_and_sorts(report: Watched) -> None:
    visible = f"[...document.querySelectorAll({INTERACTIVE!r})].filter((one) => one.checkVisibility())"
    count = report.page.evaluate(f"{visible}.length")
    reached = set()
    for _ in range(count):
        report.page.keyboard.press("Tab")
        assert report.page.evaluate("document.activeElement.matches(':focus-visible')")
        reached.add(report.page.evaluate(f"{visible}.indexOf(document.activeElement)"))
    assert reached == set(range(count))
    button = report.page.locator("#runs th button").first
    button.focus()
    report.page.keyboard.press("Enter")
    assert report.page.locator("#runs th").first.get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    scheme: Any, width: str, report: Watched
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra browser)")
    size = WIDTHS[width]
    report.page.set_viewport_size({"width": size[0], "height": size[1]})
    report.page.emulate_media(color_scheme=scheme)
    report.page.bring_to_front()
    serious = []
    for violation in axe.Axe().run(report.page).response["violations"]:
        if violation["impact"] in ("serious", "critical"):
            serious.append((violation["id"], violation["nodes"][0]["html"]))
    assert serious == []
    assert report.page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_hostile_texts_of_runs_and_results_run_nothing(
    summary: Summary, small: Dataset, watched: Watched, tmp_path: Path
) -> None:
    run = hostile_copy(summary.results[0].run, tmp_path)
    result = json.loads(BENCHMARK.read_text())
    result["machine"]["cpu"]["model"] = result["machine"]["commit"] = HOSTILE
    for number, row in enumerate(result["rows"]):
        row["name"] = f"{HOSTILE}{number}"
        row["model"] = row["format"] = row["device"] = HOSTILE
    (tmp_path / "result.json").write_text(json.dumps(result))
    hostile = benchmark_results.read(tmp_path / "result.json")
    page.write(summarise([run]), {small.sha256: small.x_test}, tmp_path / "hostile.html", hostile)
    watched.open(tmp_path / "hostile.html")
    watched.page.locator("#flip-second").select_option(str(1))
    watched.page.locator("#benchmark select").first.select_option(HOSTILE)
    assert watched.complaints == []
    assert HOSTILE in watched.page.locator("body").text_content()
    assert watched.page.locator("img").count() == 0


def test_pages_of_a_trend_and_a_comparison_show_their_tables(
    cifar: Command, watched: Watched, tmp_path: Path
) -> None:
    assert cifar("report", "--trend", ROOT / "bench" / "history", "--html", "trend.html").code == 0
    compared = cifar("compare", BENCHMARK, BENCHMARK, "--html", "verdicts.html")
    assert compared.code == 0, compared.err
    for name in ("trend.html", "verdicts.html"):
        watched.open(tmp_path / name)
        assert watched.page.locator("table, .note").count() > 0
        assert watched.page.locator("script").count() == 0
    assert watched.page.locator("h1").inner_text().startswith("Verdicts:")
    assert watched.complaints == []


@pytest.mark.usefixtures("chromium")
def test_the_benchmark_says_how_long_the_page_takes_to_open(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "pytest",
        "bench/",
        "--benchmark-only",
        "-k",
        "report_page",
        "-p",
        "no:cacheprovider",
    ]
    words += ["--report-to", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout
    assert "The report as a page" in done.stdout
    (row,) = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert row["runs"] >= 24
    assert row["seconds_to_open"] > 0
