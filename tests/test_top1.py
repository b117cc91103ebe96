"""FILE.top1.npz: what each exported file says of every test image."""

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cifar import export
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.formats import FORMATS, manifest, top1
from cifar.inference.runtimes import load_session
from cifar.runs.run import Run

RELEASED = ROOT / "exports"


@settings(deadline=None, max_examples=100)
@given(arrays(np.float32, (20, 10), elements=st.floats(0, 1, width=32)))
def test_class_and_confidence_are_those_of_the_probabilities(probabilities: NDArray[np.float32]) -> None:
    found = top1.of(probabilities)
    assert found.classes.dtype == found.confidences.dtype == np.uint8
    np.testing.assert_array_equal(found.classes, probabilities.argmax(axis=1))
    np.testing.assert_allclose(found.confidences / 255, probabilities.max(axis=1), atol=0.5 / 255 + 1e-6)


@pytest.fixture
def folder(pair: list[Run], small: Dataset, tmp_path: Path) -> Path:
    """A run's ONNX file and what it says."""
    export.export_runs(pair[:1], small, ["onnx"], tmp_path)
    return tmp_path


def test_an_exported_file_has_its_own(folder: Path, small: Dataset) -> None:
    (entry,) = manifest.read(folder)
    found = top1.read(folder, entry)
    probabilities = load_session("onnx", folder / entry.file, 2)(small.x_test)
    assert found is not None
    np.testing.assert_array_equal(found.classes, probabilities.argmax(axis=1))


def test_of_a_file_from_before_they_were_kept_there_are_none(folder: Path) -> None:
    (entry,) = manifest.read(folder)
    assert top1.read(folder, entry.model_copy(update={"top1_sha256": None})) is None


@pytest.mark.parametrize("damage", ["truncated", "missing", "others", "shorter", "no class"])
def test_a_damaged_one_is_one_sentence(folder: Path, damage: str) -> None:
    (entry,) = manifest.read(folder)
    path = top1.path_of(folder / entry.file)
    classes = np.zeros(entry.n_test, np.uint8)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "others":
        np.savez(path, classes=classes, confidences=classes)
    elif damage == "shorter":
        np.savez(path, classes=classes[1:], confidences=classes[1:])
    else:
        np.savez(path, classes=classes + 10, confidences=classes)
    with pytest.raises(UsageError, match=path.name):
        top1.read(folder, entry)


@pytest.mark.parametrize("entry", manifest.read(RELEASED), ids=lambda entry: entry.file)
def test_the_released_files_have_theirs(entry: manifest.ManifestEntry) -> None:
    found = top1.read(RELEASED, entry)
    assert found is not None
    assert len(found.classes) == entry.n_test
    of_keras = {
        other.format: other for other in manifest.read(RELEASED) if other.weights_sha256 == entry.weights_sha256
    }
    exact = top1.read(RELEASED, of_keras["saved-model"])
    assert exact is not None
    agreement = (found.classes == exact.classes).mean()
    assert agreement == pytest.approx(entry.agreement, abs=0.0002)
    assert set(of_keras) == set(FORMATS)
