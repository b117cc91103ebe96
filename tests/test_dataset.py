"""Where CIFAR-10 is looked for, and what a data set reports about itself."""

import hashlib
import importlib.util
import io
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.cifar10_copies import (
    SMALL,
    isolated,
    only_reading,
    packed,
    publish,
    small_files,
    tar,
    unpacked,
    warnings_of,
)
from helpers.download_site import Site, _frozen_garbage, sends, site
from helpers.in_process import run_cli
from PIL import Image

from cifar.data import archive, copies, dataset, download, hugging_face, sources
from cifar.data.dataset import Dataset
from cifar.errors import DataError, NotFoundError, UsageError

__all__ = ["_frozen_garbage", "isolated", "site"]  # fixtures
PYARROW = importlib.util.find_spec("pyarrow") is not None
REAL = os.environ.get("CIFAR10_DIR")
SUGGESTIONS = ("--data-dir", "CIFAR10_DIR", "CIFAR10_URL", "--data synthetic", archive.FOLDER, archive.ARCHIVE)


def first_image(seed: int) -> np.ndarray:
    return pickle.loads(small_files(seed)["data_batch_1"])[b"data"][0].reshape(3, 32, 32).transpose(1, 2, 0)


def is_of(data: Dataset, seed: int) -> bool:
    return np.array_equal(data.x_train[0], first_image(seed))


# Places that the user names.


def test_a_named_folder_is_itself(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "any-name")
    assert copies.named_copy(folder) == folder


def test_a_named_folder_lacking_files_is_itself_so_that_the_missing_one_is_named(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "any-name")
    (folder / "data_batch_2").unlink()
    with pytest.raises(DataError, match="any-name/data_batch_2: expected a readable file"):
        dataset.load("cifar10", folder, only_reading)


def test_a_named_archive_is_itself(tmp_path: Path) -> None:
    path = packed(tmp_path / "copy.tgz")
    assert copies.named_copy(path) == path


def test_the_parent_of_the_folder_may_be_named(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / archive.FOLDER)
    assert copies.named_copy(tmp_path) == folder


def test_the_parent_of_the_archive_may_be_named(tmp_path: Path) -> None:
    path = packed(tmp_path / archive.ARCHIVE)
    assert copies.named_copy(tmp_path) == path


def test_the_folder_goes_before_the_archive_beside_it(tmp_path: Path) -> None:
    packed(tmp_path / archive.ARCHIVE)
    folder = unpacked(tmp_path / archive.FOLDER)
    assert copies.named_copy(tmp_path) == folder


@pytest.mark.parametrize("name", ["nowhere", "x" * 300, "nul\0byte"])
def test_a_named_place_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        copies.named_copy(tmp_path / name)
    assert caught.value.exit_code == 3
    assert str(tmp_path / name) in str(caught.value)
    assert archive.FOLDER in str(caught.value)
    assert archive.ARCHIVE in str(caught.value)


def test_a_missing_place_and_one_without_the_data_are_distinguished(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no such folder"):
        copies.named_copy(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found neither"):
        copies.named_copy(tmp_path)


@pytest.mark.parametrize("choice", ["cifar10", "auto"])
def test_a_named_place_without_the_data_is_an_error_and_no_reason_to_look_elsewhere(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    packed(download.cache() / archive.ARCHIVE)
    with pytest.raises(DataError, match="nowhere"):
        dataset.load(choice, tmp_path / "nowhere", only_reading)
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        dataset.load(choice, None, only_reading)


@pytest.mark.parametrize("choice", ["cifar10", "auto"])
def test_a_named_copy_that_is_damaged_is_an_error(choice: str, tmp_path: Path) -> None:
    folder = unpacked(tmp_path / archive.FOLDER)
    (folder / "test_batch").write_bytes(b"damaged")
    with pytest.raises(DataError, match="test_batch"):
        dataset.load(choice, folder, only_reading)


@pytest.mark.parametrize("choice", ["cifar10", "auto"])
def test_a_named_copy_that_is_not_the_published_one_is_used_and_its_digest_shown(choice: str, tmp_path: Path) -> None:
    notes: list[str] = []
    data = dataset.load(choice, unpacked(tmp_path / archive.FOLDER), notes.append)
    assert (data.name, data.official) == ("cifar10", False)
    assert notes[0] == f"Reading {tmp_path / archive.FOLDER}"
    assert len(notes) == 2
    assert str(tmp_path / archive.FOLDER) in notes[1]
    assert data.sha256 in notes[1]


@pytest.mark.parametrize("make", [unpacked, packed])
def test_a_named_copy_that_is_the_published_one_is_official(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    assert dataset.load("cifar10", make(tmp_path / "copy"), only_reading).official is True


def test_the_argument_goes_before_the_environment_and_that_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    packed(download.cache() / archive.ARCHIVE)
    notes: list[str] = []
    assert is_of(dataset.load_cifar10(None, notes.append), 0)
    monkeypatch.setenv("CIFAR10_DIR", str(unpacked(tmp_path / "one", seed=1)))
    assert is_of(dataset.load_cifar10(None, notes.append), 1)
    assert is_of(dataset.load_cifar10(unpacked(tmp_path / "two", seed=2), notes.append), 2)


def test_an_empty_variable_names_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    packed(download.cache() / archive.ARCHIVE)
    monkeypatch.setenv("CIFAR10_DIR", "")
    assert dataset.load_cifar10(None, only_reading).official is True


def test_a_copy_of_another_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "TRAIN", 5 * SMALL + 1)
    with pytest.raises(DataError, match="expected 101/20 images, found 100/20"):
        dataset.load_cifar10(unpacked(tmp_path / "copy"), only_reading)


# Copies in caches.


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (packed, f"cache/cifar-bench/{archive.ARCHIVE}"),
        (unpacked, f"keras/datasets/{archive.FOLDER}"),
        (unpacked, f"keras/datasets/cifar-10-batches-py-target/{archive.FOLDER}"),
        (packed, f"keras/datasets/{archive.FOLDER}.tar.gz"),
        (unpacked, f"data/{archive.FOLDER}"),
        (packed, f"data/{archive.ARCHIVE}"),
    ],
)
def test_a_cached_copy_is_found(
    make: Callable[[Path], Path], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    make(tmp_path / place)
    data = dataset.load("auto", None, only_reading)
    assert (data.name, data.official) == ("cifar10", True)


def test_keras_keeps_its_copies_at_home_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_HOME")
    folder = unpacked(tmp_path / "home" / ".keras" / "datasets" / archive.FOLDER)
    assert list(copies.cached_copies()) == [folder]


def test_the_own_cache_goes_before_that_of_keras(tmp_path: Path) -> None:
    keras = unpacked(tmp_path / "keras" / "datasets" / archive.FOLDER)
    own = packed(download.cache() / archive.ARCHIVE)
    assert list(copies.cached_copies()) == [own, keras]


def test_a_cached_copy_that_is_not_the_published_one_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    other = packed(download.cache() / archive.ARCHIVE, seed=1)
    unpacked(tmp_path / "keras" / "datasets" / archive.FOLDER)
    notes: list[str] = []
    data = dataset.load_cifar10(None, notes.append)
    assert is_of(data, 0)
    (warning,) = warnings_of(notes)
    assert warning.startswith(f"{other} is not the published CIFAR-10")
    assert "--data-dir" in warning


def test_a_damaged_cached_copy_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    damaged = packed(download.cache() / archive.ARCHIVE)
    damaged.write_bytes(damaged.read_bytes()[:5000])
    unpacked(tmp_path / "keras" / "datasets" / archive.FOLDER)
    notes: list[str] = []
    assert dataset.load_cifar10(None, notes.append).official is True
    (warning,) = warnings_of(notes)
    assert "damaged" in warning
    assert str(damaged) in warning


def test_a_copy_that_is_not_used_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    other = packed(download.cache() / archive.ARCHIVE, seed=1)
    with pytest.raises(NotFoundError):
        dataset.load_cifar10(None, lambda _: None, download=False)
    assert other.read_bytes() == tar(seed=1)


def test_without_a_copy_and_without_download_nothing_is_fetched(site: "Site") -> None:
    site.published(sends(tar()))
    with pytest.raises(NotFoundError, match="--data-dir or CIFAR10_DIR") as caught:
        dataset.load_cifar10(None, pytest.fail, download=False)
    assert caught.value.exit_code == 3
    assert site.visits == []


# A copy in the cache of Hugging Face.

PIXELS = np.random.default_rng(5).integers(0, 256, (120, 32, 32, 3), np.uint8)
LABELS = np.arange(120) % 10
SNAPSHOT = "datasets--uoft-cs--cifar10/snapshots/0b2714987fa478483af9968de7c934580d0bb9a2/plain_text"


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a parquet file if pyarrow is installed, else one that the stand-in below reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if PYARROW:
        table = importlib.import_module("pyarrow").Table.from_pylist(rows)
        importlib.import_module("pyarrow.parquet").write_table(table, path)
    else:
        path.write_bytes(pickle.dumps(rows))


class ParquetFile:
    """What is used of pyarrow.parquet.ParquetFile."""

    def __init__(self, path: Path) -> None:
        self.rows = pickle.loads(path.read_bytes())
        group = SimpleNamespace(total_byte_size=path.stat().st_size)
        self.metadata = SimpleNamespace(num_rows=len(self.rows), num_row_groups=1, row_group=lambda _: group)

    def read(self, columns: list[str]) -> "ParquetFile":
        self.rows = [{name: row[name] for name in columns} for row in self.rows]
        return self

    def to_pylist(self) -> list[dict[str, Any]]:
        return self.rows


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of parquet files in a cache of Hugging Face with 100 training and 20 test images."""
    monkeypatch.setattr(hugging_face, "SPLITS", {"train": 100, "test": 20})
    if not PYARROW:
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", SimpleNamespace(ParquetFile=ParquetFile))
        monkeypatch.setattr(hugging_face, "is_readable", lambda: True)
    folder = tmp_path / "cache" / "huggingface" / "hub" / SNAPSHOT
    rows = [
        {"img": {"bytes": png(pixels), "path": None}, "label": int(label)}
        for pixels, label in zip(PIXELS, LABELS, strict=True)
    ]
    write_parquet(folder / "train-00000-of-00002.parquet", rows[:60])
    write_parquet(folder / "train-00001-of-00002.parquet", rows[60:100])
    write_parquet(folder / "test-00000-of-00001.parquet", rows[100:])
    return folder


@pytest.mark.parametrize("parents", [0, 1, 3])
def test_a_named_copy_of_hugging_face_is_read_and_is_not_official(parents: int, hub: Path) -> None:
    """The folder of the files, its snapshot, or the repository is named."""
    notes: list[str] = []
    place = [hub, *hub.parents][parents]
    data = dataset.load("cifar10", place, notes.append)
    assert data.official is False
    assert np.array_equal(np.concatenate([data.x_train, data.x_test]), PIXELS)
    assert np.array_equal(np.concatenate([data.y_train, data.y_test]), LABELS)
    assert f"{place} is not the published CIFAR-10" in notes[1]


def test_a_copy_of_hugging_face_that_is_not_named_is_announced_and_skipped(hub: Path) -> None:
    notes: list[str] = []
    with pytest.raises(NotFoundError):
        dataset.load_cifar10(None, notes.append, download=False)
    (note,) = notes
    assert str(hub) in note
    assert "--data-dir" in note


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME"])
def test_the_variables_of_hugging_face_are_followed(
    variable: str, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hugging_face.cached_copies() == [hub]
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert hugging_face.cached_copies() == []
    home = tmp_path / "elsewhere" if variable == "HF_HUB_CACHE" else tmp_path / "elsewhere" / "hub"
    shutil.copytree(hub, home / SNAPSHOT)
    assert hugging_face.cached_copies() == [home / SNAPSHOT]


def test_without_pyarrow_the_remedy_is_named(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging_face, "is_readable", lambda: False)
    with pytest.raises(DataError, match="pip install pyarrow"):
        dataset.load_cifar10(hub, only_reading)
    assert "install pyarrow" in run_cli(["data", "info", "--json"]).out


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"img": {"bytes": b"no picture", "path": None}, "label": 1}, "expected PNG images"),
        ({"img": {"bytes": png(np.zeros((33, 32, 3), np.uint8)), "path": None}, "label": 1}, "expected PNG images"),
        ({"img": {"bytes": png(np.zeros((32, 32), np.uint8)), "path": None}, "label": 1}, "expected PNG images"),
        ({"img": {"bytes": png(PIXELS[0]), "path": None}, "label": 10}, "expected labels from 0 to 9"),
        ({"image": 1, "label": 1}, "not readable|expected"),
    ],
)
def test_a_damaged_copy_of_hugging_face_is_refused(row: dict[str, Any], reason: str, hub: Path) -> None:
    write_parquet(hub / "test-00000-of-00001.parquet", [row])
    with pytest.raises(DataError, match=reason):
        dataset.load_cifar10(hub, only_reading)


def test_a_parquet_file_with_too_many_rows_or_too_few_is_refused(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging_face, "SPLITS", {"train": 50, "test": 20})
    with pytest.raises(DataError, match=r"60 rows of .* bytes are too many"):
        dataset.load_cifar10(hub, only_reading)
    monkeypatch.setattr(hugging_face, "SPLITS", {"train": 101, "test": 20})
    with pytest.raises(DataError, match="expected 101 train images, found 100"):
        dataset.load_cifar10(hub, only_reading)


def test_a_damaged_parquet_file_is_refused(hub: Path) -> None:
    (hub / "train-00000-of-00002.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match="not readable"):
        dataset.load_cifar10(hub, only_reading)


# Without a network.


def test_cifar10_without_a_copy_and_a_network_is_an_error_that_suggests_what_to_do() -> None:
    notes: list[str] = []
    with pytest.raises(NotFoundError) as caught:
        dataset.load("cifar10", None, notes.append)
    assert caught.value.exit_code == 3
    assert f"{sources.PUBLISHED_URL}: no connection" in str(caught.value)
    for suggestion in SUGGESTIONS:
        assert suggestion in str(caught.value)
    assert notes == [f"Fetching {sources.PUBLISHED_URL}"]


def test_auto_without_a_copy_and_a_network_draws_images_and_says_so() -> None:
    notes: list[str] = []
    data = dataset.load("auto", None, notes.append)
    assert (data.name, data.official) == ("synthetic", None)
    assert (len(data.x_train), len(data.x_test)) == (4_000, 1_000)
    assert notes[-1].startswith("CIFAR-10 not found")
    for suggestion in SUGGESTIONS:
        assert suggestion in notes[-1]


def test_synthetic_looks_for_no_copy(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    site.published(sends(tar()))
    monkeypatch.setenv("CIFAR10_DIR", "/nowhere")
    assert dataset.load("synthetic", None, pytest.fail).name == "synthetic"
    assert site.visits == []


def test_synthetic_with_a_place_of_cifar10_is_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data-dir") as caught:
        dataset.load("synthetic", unpacked(tmp_path / archive.FOLDER), only_reading)
    assert caught.value.exit_code == 2


# What a data set reports about itself.


def test_the_digest_is_over_images_and_labels_in_their_order(tmp_path: Path) -> None:
    data = dataset.load_cifar10(unpacked(tmp_path / "copy"), lambda _: None)
    parts = (data.x_train, data.y_train, data.x_test, data.y_test)
    assert data.sha256 == hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_the_digest_is_the_same_for_the_folder_and_the_archive(tmp_path: Path) -> None:
    one, other = (dataset.load_cifar10(make(tmp_path / make.__name__), lambda _: None) for make in (unpacked, packed))
    assert one.sha256 == other.sha256
    shutil.rmtree(tmp_path / "unpacked")
    assert dataset.load_cifar10(unpacked(tmp_path / "unpacked", seed=1), lambda _: None).sha256 != one.sha256


def test_the_first_images_keep_the_whole_test_set() -> None:
    data = dataset.draw_synthetic(30, 20)
    part = data.head(7)
    assert np.array_equal(part.x_train, data.x_train[:7])
    assert np.array_equal(part.y_train, data.y_train[:7])
    assert np.array_equal(part.x_test, data.x_test)
    assert part.sha256 != data.sha256
    assert data.head(None).sha256 == data.sha256


def test_the_facts_are_those_of_the_data() -> None:
    data = dataset.draw_synthetic(30, 20)
    expected = {"name": "synthetic", "official": None, "sha256": data.sha256, "n_train": 7, "n_test": 20}
    assert data.head(7).facts() == {**expected, "sha256": data.head(7).sha256}


@pytest.mark.skipif(not REAL, reason="CIFAR10_DIR names no copy of CIFAR-10")
def test_the_real_data_have_the_known_shapes_labels_and_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "BATCH", 10_000)
    monkeypatch.setattr(dataset, "TRAIN", 50_000)
    monkeypatch.setattr(dataset, "TEST", 10_000)
    data = dataset.load("cifar10", Path(str(REAL)), lambda _: None)
    assert data.x_train.shape == (50_000, 32, 32, 3)
    assert data.x_test.shape == (10_000, 32, 32, 3)
    assert np.bincount(data.y_train).tolist() == [5_000] * 10
    assert np.bincount(data.y_test).tolist() == [1_000] * 10
    mean = data.x_train.mean((0, 1, 2)) / 255
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.0005)
    assert data.y_train[:5].tolist() == [6, 9, 9, 4, 1]
    assert data.y_test[:5].tolist() == [3, 8, 8, 0, 6]
