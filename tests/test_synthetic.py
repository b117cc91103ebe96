import hashlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cifar.data import synthetic
from cifar.data.synthetic import CHUNK, CLASS_NAMES, draw

DIGEST = (
    "import hashlib, sys; from cifar.data.synthetic import draw; images, labels = draw(*map(int, sys.argv[1:])); "
)
DIGEST += "print(hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest())"


def digest(n: int, seed: int, split: int) -> str:
    images, labels = draw(n, seed, split)
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def digest_elsewhere(n: int, seed: int, split: int) -> str:
    command = [sys.executable, "-W", "error", "-c", DIGEST, str(n), str(seed), str(split)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout.strip()


def pictures(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_there_are_ten_classes_of_different_names() -> None:
    assert len(set(CLASS_NAMES)) == len(CLASS_NAMES) == 10


@pytest.mark.parametrize("n", [1, 9, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 30])
@pytest.mark.parametrize("split", [0, 1])
def test_pictures_have_the_shape_and_type_of_cifar10(n: int, split: int) -> None:
    images, labels = draw(n, 0, split)
    assert (images.shape, images.dtype) == ((n, 32, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((n,), np.uint8)
    assert images.flags.c_contiguous


@given(st.integers(1, 2 * CHUNK), st.integers(0, 2**31), st.integers(0, 1))
@settings(max_examples=8, deadline=None)
@example(1000, 0, 0)
@example(7, 0, 1)
def test_classes_are_as_equal_in_number_as_can_be(n: int, seed: int, split: int) -> None:
    counts = np.bincount(draw(n, seed, split)[1], minlength=10)
    assert len(counts) == 10
    assert counts.sum() == n
    assert counts.max() - counts.min() == (n % 10 > 0)


def test_every_part_of_the_data_has_every_class() -> None:
    """Else the first images, of --limit and of a small calibration, would be of some classes only."""
    labels = draw(1000, 0, 0)[1]
    assert all(set(labels[start : start + 10]) == set(range(10)) for start in range(0, 1000, 10))


@pytest.mark.parametrize(("n", "seed", "split"), [(CHUNK + 20, 0, 0), (30, 7, 1)])
def test_the_same_seed_gives_the_same_bytes_in_a_fresh_process(n: int, seed: int, split: int) -> None:
    assert digest(n, seed, split) == digest(n, seed, split) == digest_elsewhere(n, seed, split)


def test_drawing_leaves_the_common_random_state_alone_and_does_not_depend_on_it() -> None:
    np.random.seed(1)
    first, after = digest(20, 0, 0), np.random.random()
    np.random.seed(1)
    assert np.random.random() == after
    assert digest(20, 0, 0) == first


@given(st.integers(1, CHUNK + 20), st.integers(0, CHUNK + 20), st.integers(0, 3), st.integers(0, 1))
@settings(max_examples=8, deadline=None)
@example(1, CHUNK, 0, 0)
@example(CHUNK, 1, 0, 1)
@example(CHUNK - 1, 2, 0, 0)
@example(CHUNK + 1, CHUNK - 1, 0, 0)
def test_a_picture_is_the_same_however_many_are_drawn(n: int, more: int, seed: int, split: int) -> None:
    images, labels = draw(n, seed, split)
    more_images, more_labels = draw(n + more, seed, split)
    assert np.array_equal(images, more_images[:n])
    assert np.array_equal(labels, more_labels[:n])


def test_no_picture_is_made_of_memory_that_was_never_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    n = CHUNK + 3
    plain = digest(n, 0, 0)
    empty = np.empty

    def poisoned(shape: tuple[int, ...], dtype: type = float) -> np.ndarray:
        array = empty(shape, dtype)
        array.fill(np.nan if np.issubdtype(dtype, np.floating) else 99)
        return array

    monkeypatch.setattr(synthetic.np, "empty", poisoned)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert digest(n, 0, 0) == plain


def test_no_two_pictures_are_equal_neither_in_a_split_nor_between_them() -> None:
    training, test = draw(4000, 0, 0)[0], draw(1000, 0, 1)[0]
    assert len(pictures(training)) == 4000
    assert len(pictures(test)) == 1000
    assert not pictures(training) & pictures(test)


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 1), st.integers(0, 1))
@settings(max_examples=8, deadline=None)
@example(0, 1, 0, 0)
@example(0, 1, 1, 0)
@example(0, 0, 0, 1)
def test_another_seed_or_split_gives_other_pictures(seed: int, other: int, split: int, other_split: int) -> None:
    images, others = draw(20, seed, split)[0], draw(20, other, other_split)[0]
    if (seed, split) == (other, other_split):
        assert np.array_equal(images, others)
    else:
        assert not pictures(images) & pictures(others)


def test_two_pictures_of_a_class_differ_in_more_than_noise() -> None:
    images, labels = draw(400, 0, 0)
    for label in range(10):
        of_class = images[labels == label].astype(float)
        blurred = of_class.reshape(len(of_class), 8, 4, 8, 4, 3).mean((2, 4))
        assert blurred.std(0).min() > 10


def test_the_classes_do_not_differ_in_colour_alone() -> None:
    """A network that only looked at the mean colour of a picture would know nothing of its class."""
    images, labels = draw(2000, 0, 0)
    colours = images.mean((1, 2))
    centres = np.array([colours[labels == label].mean(0) for label in range(10)])
    nearest = np.linalg.norm(draw(1000, 0, 1)[0].mean((1, 2))[:, None] - centres, axis=2).argmin(1)
    assert (nearest == draw(1000, 0, 1)[1]).mean() < 0.2
