"""The figures by which bench/baselines/README.md explains the reference results."""

import numpy as np
import pytest

from bench.baselines import why
from cifar.data.dataset import Dataset
from cifar.runs.loading import load_keras
from cifar.runs.run import Run


def test_a_shift_by_whole_pixels_moves_up_and_to_the_left_and_repeats_the_edge() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(why.shift(images, 0), images)
    moved = why.shift(images, 1)
    assert (moved.shape, moved.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(moved[:, :-1, :-1], images[:, 1:, 1:])
    np.testing.assert_array_equal(moved[:, -1, :-1], images[:, -1, 1:])
    np.testing.assert_array_equal(moved[:, :-1, -1], images[:, 1:, -1])


def test_a_shift_by_half_a_pixel_is_the_mean_of_four_neighbours() -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 10, 10] = 100
    moved = why.shift(image, 0.5)
    assert moved[0, 9:11, 9:11, 0].tolist() == [[25, 25], [25, 25]]
    assert moved[..., 0].sum() == 100
    quarter = why.shift(image, 0.25)[0, 9:11, 9:11, 0]
    assert quarter.tolist() == np.rint(100 * np.outer([0.25, 0.75], [0.25, 0.75])).tolist()


def test_a_channel_is_dead_if_no_image_makes_it_positive() -> None:
    import keras

    layer = keras.layers.Conv2D(3, 1, activation="relu", name="convolution")
    model = keras.Sequential([keras.Input((32, 32, 3)), layer, keras.layers.Flatten(), keras.layers.Dense(10)])
    # channel 0 is never positive, channel 1 always, channel 2 where a pixel is brighter than 254
    layer.set_weights([np.array([[[[-1.0, 0.0, 1.0]] * 3]]), np.array([0.0, 1.0, -3 * 254.0])])
    images = np.zeros((20, 32, 32, 3), np.uint8)
    assert why.count_dead_channels(model, images) == {"convolution": [2, 3]}
    images[19, 31, 31] = 255  # in the last batch
    assert why.count_dead_channels(model, images) == {"convolution": [1, 3]}


def test_training_continues_after_the_last_epoch(pair: list[Run], small: Dataset) -> None:
    run = pair[1]
    weights = load_keras(run).get_weights()
    still = why.continue_training(run, small, weights, 0.0)
    assert [epoch["test_accuracy"] for epoch in still] == [run.metrics.accuracy] * why.CONTINUED_EPOCHS
    assert len({epoch["loss"] for epoch in still}) == why.CONTINUED_EPOCHS  # other images and dropout every epoch
    moving = why.continue_training(run, small, weights, 1.0)
    assert moving == why.continue_training(run, small, weights, 1.0)
    assert moving[-1]["loss"] < still[-1]["loss"]


def test_all_figures_of_a_run(pair: list[Run], small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why, "CONTINUED_EPOCHS", 1)
    figures = why.explain(pair[0], small)
    assert list(figures["shifted"]) == ["0", "0.1", "0.25", "0.5", "1"]
    assert figures["shifted"]["0"] == pair[0].metrics.accuracy
    assert {name: len(epochs) for name, epochs in figures["continued"].items()} == {"same rate": 1, "a tenth": 1}
    assert [of for _, of in figures["dead_channels"].values()] == [16, 16, 32, 32, 64, 64]
