import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cifar.data.augmentation import Images, Parameters, apply, draw, order
from cifar.recipes import POLICIES, Policy
from cifar.system import environment

Reference = Callable[[Images, Parameters], NDArray[np.float32]]

UNCHANGED = Parameters(np.zeros(1), np.zeros(1), np.zeros(1, np.bool_), np.zeros(1, np.bool_))
TRANSFORMS = {
    "rows": st.floats(-32, 32),
    "columns": st.floats(-32, 32),
    "flip_rows": st.booleans(),
    "flip_columns": st.booleans(),
    "angle": st.floats(-180, 180),
}
SHIFTS_AND_FLIPS = ("rows", "columns", "flip_rows", "flip_columns")
ANY_POLICY = st.sampled_from(list(POLICIES.values()))
SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(0, 1000)
PAIRS = [(seed, epoch) for seed in (0, 1, 2, 2**32 - 1) for epoch in (0, 1, 2, 49)]

# Keras asks scipy for affine_transform by its old address.
uses_keras = pytest.mark.filterwarnings("ignore:Please import `affine_transform` from:DeprecationWarning")


def noise(n: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


def drawn(names: tuple[str, ...]) -> st.SearchStrategy[Parameters]:
    values = st.fixed_dictionaries({name: TRANSFORMS[name] for name in names})
    return values.map(lambda chosen: replace(UNCHANGED, **{name: np.array([chosen[name]]) for name in chosen}))


def same(first: Parameters, second: Parameters) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Parameters))


def digest(seed: int, epoch: int) -> str:
    p = draw(POLICIES["all"], seed, epoch, 1000)
    held = (p.rows, p.columns, p.flip_rows, p.flip_columns, p.angle, order(seed, epoch, 1000))
    return hashlib.sha256(b"".join(array.tobytes() for array in held)).hexdigest()


@pytest.fixture(scope="module")
def keras_generator() -> Reference:
    environment.configure(2)
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(fill_mode="nearest")

    def transformed(images: Images, p: Parameters) -> NDArray[np.float32]:
        angle = np.zeros(len(images)) if p.angle is None else p.angle
        chosen = [
            {
                "theta": angle[i],
                "tx": p.columns[i],
                "ty": p.rows[i],
                "flip_horizontal": p.flip_columns[i],
                "flip_vertical": p.flip_rows[i],
            }
            for i in range(len(images))
        ]
        floats = images.astype(np.float32)
        return np.stack([generator.apply_transform(x, one) for x, one in zip(floats, chosen, strict=True)])

    return transformed


@uses_keras
@pytest.mark.parametrize("names", [*[(name,) for name in TRANSFORMS], SHIFTS_AND_FLIPS, tuple(TRANSFORMS)])
@settings(deadline=None, max_examples=100)
@given(data=st.data(), seed=SEEDS)
def test_a_transform_is_that_of_keras_within_one_grey_level(keras_generator, names, data, seed):
    image, parameters = noise(1, seed), data.draw(drawn(names))
    assert np.abs(apply(image, parameters) - keras_generator(image, parameters)).max() <= 1


@uses_keras
@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_that_of_keras_rounded_to_the_nearest_grey_level(keras_generator, name):
    images, parameters = noise(100), draw(POLICIES[name], 0, 0, 100)
    assert np.abs(apply(images, parameters) - keras_generator(images, parameters)).max() <= 0.501


@uses_keras
def test_shift_and_flip_have_no_rounding_error_at_all(keras_generator):
    images, parameters = noise(100), draw(POLICIES["shift-flip"], 0, 0, 100)
    assert np.array_equal(apply(images, parameters), np.rint(keras_generator(images, parameters)))


@uses_keras
@pytest.mark.parametrize("name", ["shift-flip", "all"])
def test_shifts_by_whole_pixels_would_not_be_those_of_keras(keras_generator, name):
    images, parameters = noise(100), draw(POLICIES[name], 0, 0, 100)
    whole = replace(parameters, rows=np.rint(parameters.rows), columns=np.rint(parameters.columns))
    worst = np.abs(apply(images, whole) - keras_generator(images, parameters)).max(axis=(1, 2, 3))
    assert np.mean(worst > 1) > 0.9  # but for the few whose shifts happen to be nearly whole


def test_an_image_without_change_stays_as_it_is():
    images = noise(5)
    nothing = UNCHANGED[np.zeros(5, np.int64)]
    assert np.array_equal(apply(images, nothing), images)
    assert np.array_equal(apply(images, replace(nothing, angle=np.zeros(5))), images)


@pytest.mark.parametrize("angle", [None, np.zeros(1)], ids=["by axes", "by plane"])
def test_the_parameters_move_the_picture_where_their_words_say(angle):
    image, still = noise(1), replace(UNCHANGED, angle=angle)
    up = apply(image, replace(still, rows=np.array([1.0])))
    assert np.array_equal(up[:, :-1], image[:, 1:])
    assert np.array_equal(up[:, -1], image[:, -1])
    left = apply(image, replace(still, columns=np.array([2.0])))
    assert np.array_equal(left[:, :, :-2], image[:, :, 2:])
    assert np.array_equal(left[:, :, -1], image[:, :, -1])
    assert np.array_equal(apply(image, replace(still, flip_rows=np.array([True]))), image[:, ::-1])
    assert np.array_equal(apply(image, replace(still, flip_columns=np.array([True]))), image[:, :, ::-1])


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(["shift-flip", "rotate", "shift-flip-rotate", "all"]),
    st.lists(st.integers(0, 39), min_size=1, max_size=40),
    SEEDS,
)
def test_a_batch_is_transformed_like_its_images_one_by_one_and_in_any_order(name, index, seed):
    images, parameters = noise(40, seed), draw(POLICIES[name], seed, 0, 40)
    one_by_one = np.concatenate([apply(images[i : i + 1], parameters[i : i + 1]) for i in range(40)])
    assert np.array_equal(apply(images[index], parameters[index]), one_by_one[index])


@pytest.mark.parametrize("name", ["shift-flip", "all"])
def test_the_images_given_are_left_alone(name):
    images = noise(10)
    apply(images, draw(POLICIES[name], 0, 0, 10))
    assert np.array_equal(images, noise(10))


@settings(deadline=None, max_examples=100)
@given(ANY_POLICY, SEEDS, EPOCHS, st.integers(1, 300), st.integers(1, 300))
def test_the_parameters_of_an_image_do_not_depend_on_how_many_there_are(policy, seed, epoch, n, more):
    assert same(draw(policy, seed, epoch, n + more)[:n], draw(policy, seed, epoch, n))


def test_every_seed_and_epoch_has_draws_of_its_own():
    draws = [draw(POLICIES["all"], *pair, 100) for pair in PAIRS]
    for name in TRANSFORMS:
        assert len({getattr(p, name).tobytes() for p in draws}) == len(PAIRS)


@settings(deadline=None, max_examples=50)
@given(ANY_POLICY, SEEDS, EPOCHS)
def test_policies_that_share_a_transform_draw_the_same_values_for_it(policy, seed, epoch):
    some, every = draw(policy, seed, epoch, 100), draw(POLICIES["all"], seed, epoch, 100)
    assert np.array_equal(some.rows, every.rows if policy.shift else np.zeros(100))
    assert np.array_equal(some.columns, every.columns if policy.shift else np.zeros(100))
    assert np.array_equal(some.flip_rows, every.flip_rows & policy.vertical_flip)
    assert np.array_equal(some.flip_columns, every.flip_columns & policy.horizontal_flip)
    assert np.array_equal(some.angle, every.angle if policy.rotation else None)


def test_shifts_lie_on_a_grid_within_a_tenth_of_the_side_and_fill_it():
    p = draw(POLICIES["shift"], 0, 0, 20_000)
    for shift in (p.rows, p.columns):
        assert np.array_equal(shift * 256, np.rint(shift * 256))
        assert -3.2 <= shift.min() < -3.19
        assert 3.19 < shift.max() <= 3.2
        counts, _ = np.histogram(shift, bins=8, range=(-3.2, 3.2))
        assert counts == pytest.approx(np.full(8, 2500), abs=200)  # four standard deviations


def test_angles_reach_as_far_as_the_policy_lets_them():
    angle = draw(POLICIES["rotate"], 0, 0, 20_000).angle
    assert -15 <= angle.min() < -14.99
    assert 14.99 < angle.max() <= 15
    counts, _ = np.histogram(angle, bins=8, range=(-15, 15))
    assert counts == pytest.approx(np.full(8, 2500), abs=200)


def test_flips_happen_to_about_half_of_the_images():
    p = draw(POLICIES["all"], 0, 0, 10_000)
    assert p.flip_rows.mean() == pytest.approx(0.5, abs=0.02)
    assert p.flip_columns.mean() == pytest.approx(0.5, abs=0.02)


def test_the_transforms_of_an_image_are_drawn_independently_of_each_other_and_of_its_neighbour():
    p = draw(POLICIES["all"], 0, 0, 10_001)
    values = np.array([getattr(p, name) for name in TRANSFORMS], np.float64)
    related = np.corrcoef(np.concatenate([values[:, :-1], values[:, 1:]])) - np.eye(2 * len(TRANSFORMS))
    assert np.abs(related).max() < 0.04


def test_the_policy_none_changes_nothing():
    images, parameters = noise(20), draw(POLICIES["none"], 0, 0, 20)
    assert parameters.any() is False
    assert np.array_equal(apply(images, parameters), images)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_single_change_to_a_single_image_counts_as_a_change(name):
    nothing = draw(Policy(name="none"), 0, 0, 20)
    one = np.zeros(20, np.bool_ if "flip" in name else np.float64)
    assert replace(nothing, **{name: one}).any() is False
    one[13] = 1
    assert replace(nothing, **{name: one}).any() is True


@settings(deadline=None, max_examples=50)
@given(SEEDS, EPOCHS, st.integers(1, 500))
def test_an_epoch_visits_every_image_once(seed, epoch, n):
    assert sorted(order(seed, epoch, n)) == list(range(n))


def test_every_seed_and_epoch_has_an_order_of_its_own():
    assert len({order(*pair, 100).tobytes() for pair in PAIRS}) == len(PAIRS)


def test_a_fresh_process_draws_the_same():
    program = "import sys; sys.path.insert(0, sys.argv[1]); from test_augmentation import digest; print(digest(5, 7))"
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    variables = {**os.environ, "PYTHONHASHSEED": "1"}
    fresh = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()
    assert fresh == digest(5, 7)
