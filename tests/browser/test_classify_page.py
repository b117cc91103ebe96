"""The page that classifies: the classes of Python's ONNX Runtime, on every image, for every released ONNX file."""

import io
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray
from PIL import Image

from browser.conftest import Watched
from cifar.data.dataset import draw_synthetic, load_cifar10
from cifar.formats import manifest
from cifar.inference.isolated_prediction import predict_file

EXPORTS = ROOT / "exports"
PAGE = "examples/browser/index.html"
ENTRIES = [entry for entry in manifest.read(EXPORTS) if entry.file.endswith(".onnx")]
N_REAL_IMAGES = int(os.environ.get("BROWSER_IMAGES", "1000"))
CLASSIFY = """
async ([model, images]) => {
  const { classify, load } = await import("./classify.js");
  const bytes = new Uint8Array(await (await fetch(images)).arrayBuffer());
  const session = await load(model);
  const classes = [];
  for (let start = 0; start < bytes.length; start += 500 * 3072) {
    const probabilities = await classify(session, bytes.slice(start, start + 500 * 3072));
    for (let at = 0; at < probabilities.length; at += 10) {
      const ten = probabilities.slice(at, at + 10);
      classes.push(ten.indexOf(Math.max(...ten)));
    }
  }
  return classes;
}
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """Test images, where CIFAR10_DIR names the real data set as many as BROWSER_IMAGES says; else synthetic ones."""
    if "CIFAR10_DIR" in os.environ:
        return load_cifar10(None, lambda _: None, download=False).x_test[:N_REAL_IMAGES]
    return draw_synthetic(1, 1000).x_test


@pytest.fixture(scope="module")
def site(images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a copy of exports/, with the example's packages installed as its README says."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm on this machine")
    folder = tmp_path_factory.mktemp("site") / "exports"
    shutil.copytree(EXPORTS, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=folder / "examples" / "browser", check=True, timeout=600)
    (folder / "images.bin").write_bytes(images.tobytes())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.file)
def test_the_browser_gives_the_classes_of_python(
    entry: manifest.ManifestEntry, site: str, images: NDArray[np.uint8], watched: Watched
) -> None:
    watched.page.goto(f"{site}/{PAGE}")
    classes = watched.page.evaluate(CLASSIFY, [f"../../{entry.file}", "../../images.bin"])
    expected = predict_file(entry.format, EXPORTS / entry.file, images, threads=2).argmax(axis=1)
    flips = np.flatnonzero(np.array(classes) != expected)
    assert len(classes) == len(images)
    assert flips.tolist() == []
    assert watched.complaints == []


def test_a_picture_gets_ten_probabilities_of_each_chosen_model(site: str, watched: Watched, tmp_path: Path) -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, 16:80] = np.arange(64, dtype=np.uint8)[:, None, None] * 4
    Image.fromarray(picture).save(tmp_path / "picture.png")
    page = watched.page
    page.goto(f"{site}/{PAGE}")
    page.locator("#models input").nth(len(ENTRIES) - 1).wait_for()
    assert page.locator("#models label").all_inner_texts() == [f" {entry.file}" for entry in ENTRIES]
    page.locator("#file").set_input_files(tmp_path / "picture.png")
    page.locator("#results section").nth(1).wait_for()
    for card in page.locator("#results section").all():
        assert card.locator(".note").inner_text().endswith(" ms")
        percents = [float(text.removesuffix(" %")) for text in card.locator("td:last-child").all_inner_texts()]
        assert len(percents) == 10
        assert percents == sorted(percents, reverse=True)
        assert sum(percents) == pytest.approx(100, abs=1)
    assert page.locator("#status").inner_text() == ""
    assert watched.complaints == []
    assert all(url.startswith((site, "data:", "blob:")) for url in watched.requests)


def test_what_is_neither_picture_nor_model_is_said(site: str, watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("no picture")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    image = io.BytesIO()
    Image.new("RGB", (32, 32)).save(image, "PNG")
    (tmp_path / "black.png").write_bytes(image.getvalue())
    page = watched.page
    page.goto(f"{site}/{PAGE}")
    page.locator("#models input").nth(len(ENTRIES) - 1).wait_for()
    page.locator("#file").set_input_files(tmp_path / "letter.txt")
    page.get_by_text("letter.txt is neither a picture that this browser reads nor an .onnx file.").wait_for()
    page.locator("#file").set_input_files([tmp_path / "broken.onnx", tmp_path / "black.png"])
    page.get_by_text("broken.onnx cannot be run: ").wait_for()
    page.locator("#results section").nth(1).wait_for()  # the models that can be run
