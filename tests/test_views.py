"""Test-time augmentation: against the formula on logits, pixel by pixel, and what its averages keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cifar.metrics.views import TEST_TIME_AUGMENTATIONS, average_views, split_views, stack_views

Floats = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)


def noise(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


def logits(images: NDArray[np.uint8]) -> Floats:
    """Of a linear network with any weights."""
    weights = np.random.default_rng(1).normal(size=(32 * 32 * 3, 10)) / 10_000
    return images.reshape(len(images), -1) @ weights


def softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def mean_of_mirrored(images: NDArray[np.uint8]) -> Floats:
    return (logits(images) + logits(images[:, :, ::-1])) / 2


def expected(images: NDArray[np.uint8], name: str) -> Floats:
    """As airbench94 says it: of logits."""
    if name == "mirror":
        return softmax(mean_of_mirrored(images))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    up_left, down_right = padded[:, :32, :32], padded[:, 2:, 2:]
    shifted = (mean_of_mirrored(up_left) + mean_of_mirrored(down_right)) / 2
    return softmax((mean_of_mirrored(images) + shifted) / 2)


@pytest.mark.parametrize("name", TEST_TIME_AUGMENTATIONS)
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 5))
def test_averaged_log_probabilities_are_averaged_logits(name: str, seed: int, n: int) -> None:
    images = noise(n, seed)
    of_views = softmax(logits(stack_views(images, name))).astype(np.float32)
    assert of_views.min() > 1e-6
    np.testing.assert_allclose(average_views(of_views, name), expected(images, name), atol=1e-6)


@pytest.mark.parametrize("name", TEST_TIME_AUGMENTATIONS)
def test_the_first_view_is_the_image_and_the_weights_sum_to_one(name: str) -> None:
    images = noise(3)
    stacked = stack_views(images, name)
    assert stacked.shape == (3 * len(TEST_TIME_AUGMENTATIONS[name]), 32, 32, 3)
    assert np.array_equal(stacked[:3], images)
    assert len({view.tobytes() for view in stacked}) == len(stacked)
    assert sum(view.weight for view in TEST_TIME_AUGMENTATIONS[name]) == 1


@pytest.mark.parametrize("name", TEST_TIME_AUGMENTATIONS)
def test_equal_predictions_stay_and_a_probability_of_zero_is_no_veto(name: str) -> None:
    views = len(TEST_TIME_AUGMENTATIONS[name])
    one = np.full((1, 10), 0.1, np.float32)
    one[0, :2] = 0.15, 0.05
    np.testing.assert_allclose(average_views(np.repeat(one, views, axis=0), name), one, atol=1e-7)
    of_views = np.zeros((views, 10), np.float32)
    of_views[:, 3] = 1
    of_views[-1, 3], of_views[-1, 4] = 0, 1
    average = average_views(of_views, name)
    assert np.isfinite(average).all()
    assert average.sum() == pytest.approx(1)
    assert average[0, 3] >= average[0, 4] > average[0, 5]


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_an_image_and_its_mirror_image_are_predicted_alike(seed: int) -> None:
    image = noise(1, seed)
    both = []
    for images in (image, image[:, :, ::-1]):
        both.append(average_views(softmax(logits(stack_views(images, "mirror"))).astype(np.float32), "mirror"))
    np.testing.assert_allclose(*both, atol=1e-6)


@pytest.mark.parametrize("name", [None, *TEST_TIME_AUGMENTATIONS])
def test_the_images_own_probabilities_come_beside_the_average(name: str | None) -> None:
    images = noise(3)
    of_views = softmax(logits(stack_views(images, name))).astype(np.float32)
    own, average = split_views(of_views, name)
    np.testing.assert_array_equal(own, softmax(logits(images)).astype(np.float32))
    if name is None:
        assert average is None
    else:
        np.testing.assert_array_equal(average, average_views(of_views, name))
