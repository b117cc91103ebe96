"""`cifar report --trend`: results of releases in their order, in the terminal and as a picture."""

import json
from pathlib import Path

import pytest
from conftest import Command
from PIL import Image

from cifar.errors import UsageError
from cifar.report import trend

MACHINE = {
    "format_version": 2,
    "packages": {},
    "cpu": {"model": "a cpu", "logical_cores": 2},
    "gpu": None,
    "settings": {},
}


def release(folder: Path, name: str, accuracy: float, **training: float) -> None:
    inference = {
        "name": "test_latency[first-onnx-b1-t1-cpu]",
        "kind": "inference",
        "batch": 1,
        "accuracy": accuracy,
        "file_bytes": 1_110_000,
        "p50_ms": 0.2,
    }
    rows = [inference, {**inference, "name": "test_latency[first-onnx-b32-t1-cpu]", "batch": 32}]
    if training:
        rows.append({"name": "test_training[first-none-cifar]", "kind": "training", **training})
    folder.mkdir(exist_ok=True)
    content = {"format_version": 2, "machine": MACHINE, "rows": rows, "missing": []}
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_releases_are_in_the_order_of_their_versions(tmp_path: Path) -> None:
    for number, name in enumerate(("0.10.0", "0.9.0", "0.2.0")):
        release(tmp_path, name, 0.8 + number / 100)
    releases = trend.read(tmp_path)
    assert releases.releases == ["0.2.0", "0.9.0", "0.10.0"]
    (accuracies,) = releases.series["Test accuracy, %"].values()
    assert accuracies == pytest.approx([82, 81, 80])
    assert releases.series["Latency of one image, median, ms"] == {"test_latency[first-onnx-b1-t1-cpu]": [0.2] * 3}


def test_a_row_that_a_release_lacks_has_no_value_for_it(tmp_path: Path) -> None:
    release(tmp_path, "0.1.0", 0.8)
    release(tmp_path, "0.2.0", 0.8, images_per_second=2000)
    assert trend.read(tmp_path).series["Training, images/s"] == {"test_training[first-none-cifar]": [None, 2000]}


def test_the_command_shows_tables_and_draws_a_picture(cifar: Command, tmp_path: Path) -> None:
    release(tmp_path / "history", "0.1.0", 0.8)
    release(tmp_path / "history", "0.2.0", 0.81, images_per_second=2000)
    shown = cifar("report", "history", "--trend")
    assert shown.code == 0, shown.err
    assert "first-onnx-b1-t1" in shown.out
    assert "80.00  81.00" in shown.out
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    with Image.open(tmp_path / "history" / "figures" / "trend.png") as picture:
        assert picture.size[0] > 800
    assert cifar("report", "history", "--trend", "--json").json["releases"] == ["0.1.0", "0.2.0"]


@pytest.mark.parametrize(("folder", "words"), [("absent", "no such folder"), (".", "no result in it")])
def test_a_folder_without_results_is_refused(tmp_path: Path, folder: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        trend.read(tmp_path / folder)


def test_results_without_a_row_to_follow_are_refused(tmp_path: Path) -> None:
    content = {
        "format_version": 2,
        "machine": MACHINE,
        "rows": [{"name": "test_augmentation[flip]", "kind": "augmentation"}],
    }
    (tmp_path / "0.1.0.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="no result in it has a row of"):
        trend.read(tmp_path)
