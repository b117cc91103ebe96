"""The report as one HTML file: nothing from outside, no script but its own, the counts that numpy gives."""

import base64
import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Command
from helpers.hostile_run import HOSTILE, HOSTILE_NAME, hostile_copy
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cifar.analysis.summary import Summary, summarise
from cifar.compare import benchmark_results
from cifar.data.dataset import Dataset
from cifar.diagnosis import saved
from cifar.errors import UsageError
from cifar.report.html import content, page, pictures
from cifar.report.html.trade_off import Point, front
from cifar.runs.run import Run

VOID = ("meta", "img", "input", "br")


class Elements(HTMLParser):
    """Every element of a page: its name, its attributes, and the text directly in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes), []))
        if tag not in VOID:
            self._open.append(len(self.found) - 1)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes), []))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self.found[self._open.pop()][0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found[self._open[-1]][2].append(data)

    def named(self, tag: str) -> list[tuple[Mapping[str, str | None], str]]:
        return [(attributes, "".join(texts)) for name, attributes, texts in self.found if name == tag]


@pytest.fixture(scope="module")
def text(summary: Summary, small: Dataset) -> str:
    return page.render(summary, {small.sha256: small.x_test})


def content_of(text: str) -> Any:
    (embedded,) = [body for attributes, body in Elements(text).named("script") if attributes.get("id") == "content"]
    return json.loads(embedded)


def decoded(values: str) -> Any:
    return np.frombuffer(base64.b64decode(values), np.uint8)


def test_a_page_needs_nothing_from_outside_and_its_policy_allows_its_own_script_and_style_alone(text: str) -> None:
    elements = Elements(text)
    (policy,) = [attributes["content"] for attributes, _ in elements.named("meta") if "http-equiv" in attributes]
    assert policy is not None
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none';")
    (script,) = [body for attributes, body in elements.named("script") if "type" not in attributes]
    (style,) = [body for _, body in elements.named("style")]
    for body in (script, style):
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    for _, attributes, _ in elements.found:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))


def test_hostile_texts_are_shown_as_texts(summary: Summary, tmp_path: Path) -> None:
    run = hostile_copy(summary.results[0].run, tmp_path)
    shown_text = page.render(summarise([run]), {})
    elements = Elements(shown_text)
    assert len(elements.named("script")) == 2
    assert not elements.named("img")
    assert content_of(shown_text)[0]["predictions"][0]["name"] == HOSTILE_NAME
    shown = [body for _, body in elements.named("dd") if HOSTILE in body]
    assert len(shown) == 3  # a run's machine, two files' runtime


def test_predictions_of_runs_and_integer_files_are_embedded(summary: Summary, text: str, small: Dataset) -> None:
    (test_set,) = content_of(text)
    assert [one["name"] for one in test_set["predictions"]] == [
        "second-none-s0", "second-none-s0 onnx-int8", "second-shift-flip-s0",
    ]  # fmt: skip
    np.testing.assert_array_equal(decoded(test_set["labels"]), small.y_test)
    plain, _, augmented = test_set["predictions"]
    for one, result in zip((plain, augmented), summary.results, strict=True):
        np.testing.assert_array_equal(decoded(one["classes"]), result.probabilities.argmax(axis=1))
    wrong = np.zeros(len(small.y_test), np.bool_)
    for one in test_set["predictions"]:
        wrong |= decoded(one["classes"]) != small.y_test
    assert test_set["pictures"]["indices"] == np.flatnonzero(wrong).tolist()


def test_pictures_stand_where_the_page_looks_for_them() -> None:
    images = np.zeros((1100, 32, 32, 3), np.uint8)
    images[::2] = 255
    drawn = pictures.draw(images, np.arange(10, 1100))
    assert (len(drawn.sheets), len(drawn.indices), drawn.wanted) == (2, 1090, 1090)
    for place, index in [(0, 10), (33, 43), (1023, 1033), (1024, 1034), (1089, 1099)]:
        sheet = drawn.sheets[place // pictures.PER_SHEET].partition(",")[2]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet))).convert("L"))
        row, column = divmod(place % pictures.PER_SHEET, pictures.COLUMNS)
        shown = pixels[32 * row + 8 : 32 * row + 24, 32 * column + 8 : 32 * column + 24].mean()
        assert (shown > 127) == (index % 2 == 0), index


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_no_point_beats_one_of_the_front_and_each_other_point_is_beaten(places: list[tuple[int, int]]) -> None:
    points = [Point(cost, accuracy, "one", "") for cost, accuracy in places]
    best = front(points)
    for point in points:
        rivals = [one for one in points if one.cost <= point.cost and one.accuracy >= point.accuracy and one != point]
        assert (point in best) == (not rivals)


def test_the_points_of_the_charts_say_what_they_are(summary: Summary, text: str) -> None:
    titles = [body for _, body in Elements(text).named("title")]
    for result in summary.results:
        start = f"{result.run.path.name}: {100 * result.scores.accuracy:.2f} %, "
        assert any(title.startswith(start) for title in titles)
    assert any(title.startswith("second-none-s0 onnx-int8: ") for title in titles)


def test_without_the_data_there_are_indices_and_a_sentence(summary: Summary) -> None:
    bare = page.render(summary, {})
    (test_set,) = content_of(bare)
    assert test_set["pictures"] is None
    assert "the data are not at hand; images are named by their indices." in bare


def test_a_page_of_many_files_says_which_are_not_in_its_galleries(
    summary: Summary, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_PREDICTIONS", 2)
    shortened = page.render(summary, {small.sha256: small.x_test})
    (test_set,) = content_of(shortened)
    assert [one["name"] for one in test_set["predictions"]] == ["second-none-s0", "second-none-s0 onnx-int8"]
    assert "The galleries have the first 2 runs and files, and 1 not: report fewer runs to see them." in shortened


def test_the_command_writes_the_page_beside_its_other_answers(
    cifar: Command, summary: Summary, tmp_path: Path
) -> None:
    runs = summary.results[0].run.path.parent
    output = cifar("report", runs, "--html", "report.html", "--json")
    assert output.code == 0, output.err
    assert len(output.json["runs"]) == 2
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert not any(figure.endswith(".html") for figure in output.json["figures"])
    assert "Page: other.htm\n" in cifar("report", runs, "--html", "other.htm").out
    refused = cifar("report", runs, "--html", ".")
    assert (refused.code, refused.out) == (4, "")
    assert "Traceback" not in refused.err


def test_a_benchmark_result_goes_with_a_page_and_a_trend_has_a_page_of_its_own(
    cifar: Command, tmp_path: Path
) -> None:
    result = ROOT / "bench" / "history" / "0.1.0.json"
    refused = cifar("report", "--benchmark", result)
    assert (refused.code, refused.err) == (2, "error: --benchmark goes with --html FILE, the page that shows it.\n")
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{}")
    refused = cifar("report", "--benchmark", damaged, "--html", "page.html")
    assert refused.code == 2
    assert "not a benchmark result" in refused.err
    assert not (tmp_path / "page.html").exists()
    shown = cifar("report", "--trend", result.parent, "--html", "trend.html", "--json")
    assert shown.code == 0, shown.err
    text = (tmp_path / "trend.html").read_text()
    assert "script-src &#39;none&#39;" in text
    assert not Elements(text).named("script")
    assert "Latency of one image, median, ms" in [body for _, body in Elements(text).named("caption")]


def test_the_rows_of_a_benchmark_result_are_in_the_page(summary: Summary) -> None:
    measured = benchmark_results.read(ROOT / "bench" / "history" / "0.1.0.json")
    elements = Elements(page.render(summary, {}, measured))
    rows = [row for row in measured.rows.values() if row.columns.kind == "inference"]
    sources = [body for _, body in elements.named("dd")]
    assert {row.name for row in rows} <= set(sources)
    latencies = [body for _, body in elements.named("title") if body.endswith(" ms")]
    assert len(latencies) == sum((row.columns.batch, row.columns.threads) == (1, 1) for row in rows)


def test_a_saved_diagnosis_is_in_the_page_unless_its_file_has_changed(
    cifar: Command, summary: Summary, tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(summary.results[0].run.path, tmp_path / "second-none-s0")))
    (file,) = (run.path / "exports").glob("*.int8.onnx")
    diagnosed = cifar("diagnose", file, "--data", "synthetic", "--images", "20", "--save")
    assert diagnosed.code == 0, diagnosed.err
    stored = saved.read(file)
    assert stored is not None
    assert stored.diagnosis.n_images == 20
    text = page.render(summarise([run]), {})
    assert "second-none-s0 onnx-int8" in [
        attributes.get("aria-label") for attributes, _ in Elements(text).named("svg")
    ]
    path = saved.path_of(file)
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "sha256": "0" * 64}))
    changed = page.render(summarise([run]), {})
    assert f"{file.name} is not the file that was diagnosed: `cifar diagnose --save` again." in changed
    assert 'id="quantization"' not in changed
    for damage, message in (
        ({"format_version": 2}, "format_version is 2, this program reads 1"),
        ({"diagnosis": {}}, r"diagnosis\.n_images: Field required"),
    ):
        path.write_text(json.dumps({**written, **damage}))
        with pytest.raises(UsageError, match=message):
            page.render(summarise([run]), {})
