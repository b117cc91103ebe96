import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cifar.errors import UsageError
from cifar.networks import NETWORKS, PUBLISHED
from cifar.recipes import POLICIES, PROFILES, Policy, Recipe, grid, read, recipe

COUNTS = st.integers(1, 2**31 - 1)
ANY_POLICY = st.builds(
    Policy,
    name=st.from_regex("[a-z0-9_-]+", fullmatch=True),
    horizontal_flip=st.booleans(),
    vertical_flip=st.booleans(),
    shift=st.floats(0, 1),
    rotation=st.floats(0, 180),
)
ANY_RECIPE = st.builds(
    Recipe,
    network=st.from_regex("[a-z0-9_.-]+(:[a-z0-9_.]+)?", fullmatch=True),
    policy=ANY_POLICY,
    seed=st.integers(0, 2**32 - 1),
    dataset=st.sampled_from(["cifar10", "synthetic"]),
    train_images=st.none() | COUNTS,
    batch_size=COUNTS,
    epochs=COUNTS,
    learning_rate=st.floats(0, exclude_min=True, allow_infinity=False),
    threads=st.integers(1, 1024),
    backend=st.sampled_from(["tensorflow", "jax"]),
)
PLAIN = Recipe(network="first", policy=Policy(name="some"))
OTHER = {
    "network": "second",
    "policy": Policy(name="other"),
    "seed": 1,
    "dataset": "synthetic",
    "train_images": 50_000,
    "batch_size": 129,
    "epochs": 51,
    "learning_rate": 0.0010000000000000002,
    "threads": 3,
    "backend": "jax",
    "recipe": "other",
    "precision": "bfloat16",
    "hold_out": 1,
    "drop_last": True,
    "optimizer": "sgd",
    "momentum": 5e-324,
    "weight_decay": 5e-324,
    "schedule": "linear",
    "warmup": 5e-324,
    "initial_rate": 5e-324,
    "final_rate": 5e-324,
    "label_smoothing": 5e-324,
    "weight_averaging": "lookahead",
    "averaging_decay": 5e-324,
    "rate_multipliers": {"*": 2.0},
    "frozen_after": {"*": 1},
    "initialization": "whitening",
}
OTHER_POLICY = {
    "name": "other",
    "horizontal_flip": True,
    "vertical_flip": True,
    "shift": 5e-324,
    "rotation": 5e-324,
    "whole_pixels": True,
    "pad_crop": 1,
    "alternating_flip": True,
    "cutout": 1,
}


@settings(deadline=None, max_examples=100)
@given(ANY_RECIPE)
def test_a_recipe_survives_a_round_trip_through_json(original):
    parsed = Recipe.model_validate_json(original.model_dump_json())
    assert parsed == original
    assert parsed.sha256 == original.sha256


def test_the_digest_changes_with_any_field():
    assert set(OTHER) == set(Recipe.model_fields)
    assert set(OTHER_POLICY) == set(Policy.model_fields)
    policies = [PLAIN.policy.model_copy(update={field: value}) for field, value in OTHER_POLICY.items()]
    changed = [PLAIN.model_copy(update={field: value}) for field, value in OTHER.items() if field != "policy"]
    changed += [PLAIN.model_copy(update={"policy": policy}) for policy in policies]
    assert len({each.sha256 for each in [PLAIN, *changed]}) == 1 + len(changed)


def test_the_digest_is_that_of_the_json_with_sorted_keys():
    text = (
        '{"backend": "tensorflow", "batch_size": 64, "dataset": "cifar10", "epochs": 5, "learning_rate": 0.001, '
        '"network": "first", "policy": {"horizontal_flip": true, "name": "shift-flip", "rotation": 0.0, '
        '"shift": 0.1, "vertical_flip": false}, "seed": 7, "threads": 2, "train_images": 10000}'
    )
    assert recipe("first", "shift-flip", seed=7).sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_is_the_same_in_a_fresh_process():
    program = "from cifar.recipes import recipe; print(recipe('second', 'all', seed=3, profile='reference').sha256)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert digests == {recipe("second", "all", seed=3, profile="reference").sha256}


@pytest.mark.parametrize(
    ("network", "batch_size", "epochs"),
    [("first", 128, 50), ("second", 64, 60), ("third", 256, 40), ("my_module:build", 128, 50)],
)
def test_the_reference_profile_is_the_networks_own_recipe_on_all_images(network, batch_size, epochs):
    actual = recipe(network, "none", profile="reference")
    assert (actual.network, actual.batch_size, actual.epochs) == (network, batch_size, epochs)
    assert actual.train_images is None
    assert actual.learning_rate == 0.001


@pytest.mark.parametrize("network", [*NETWORKS, "my_module:build"])
def test_the_smoke_profile_is_the_same_for_every_network(network):
    actual = recipe(network, "none", profile="smoke")
    assert (actual.train_images, actual.batch_size, actual.epochs) == (10_000, 64, 5)
    assert (actual.recipe, actual.optimizer, actual.schedule) == ("published", "rmsprop", "constant")


@pytest.mark.parametrize("network", [*PUBLISHED, "my_module:build"])
def test_the_quick_profile_is_the_recipe_quick_on_all_images(network):
    actual = recipe(network, "none", profile="quick")
    assert actual == recipe(network, "none", file=read("quick"), profile="reference")
    assert (actual.recipe, actual.train_images, actual.epochs) == ("quick", None, 2)
    assert actual.name == f"{network.replace(':', '.')}-none-s0"


@pytest.mark.parametrize(
    ("network", "name", "precision", "expected"),
    [
        ("first", "published", "float32", "first-none-s3"),
        ("first", "tuned", "bfloat16", "first-tuned-bfloat16-none-s3"),
        ("resnet8", "resnet8", "float32", "resnet8-none-s3"),
        ("mine:build", "airbench94", "float32", "mine.build-airbench94-none-s3"),
    ],
)
def test_a_run_is_named_after_what_is_not_the_default(network, name, precision, expected):
    fields = {"precision": precision, "initialization": "default", "frozen_after": {}}
    actual = recipe(network, "none", seed=3, file=read(name), profile="reference", fields=fields)
    assert actual.name == expected


@pytest.mark.parametrize("profile", PROFILES)
def test_explicit_epochs_take_precedence_over_the_profile(profile):
    actual = recipe("second", "none", profile=profile, epochs=7)
    assert actual.epochs == 7
    assert actual == recipe("second", "none", profile=profile).model_copy(update={"epochs": 7})


def test_every_argument_is_in_the_recipe():
    actual = recipe("third", "shift", seed=9, dataset="synthetic", threads=5)
    assert (actual.network, actual.seed, actual.dataset, actual.threads) == ("third", 9, "synthetic", 5)
    assert actual.policy == Policy(name="shift", shift=0.1)


TRANSFORMS = {
    "shift": {"shift": 0.1},
    "flip": {"horizontal_flip": True},
    "rotate": {"rotation": 15.0},
    "vertical-flip": {"vertical_flip": True},
    "shift-pixels": {"shift": 0.1, "whole_pixels": True},
    "pad-crop": {"pad_crop": 4},
    "alternating-flip": {"alternating_flip": True},
    "cutout": {"cutout": 8},
}
OF_SEVERAL = {
    "none": (),
    "shift-flip": ("shift", "flip"),
    "shift-flip-rotate": ("shift", "flip", "rotate"),
    "all": ("shift", "flip", "rotate", "vertical-flip"),
    "pad-crop-flip": ("pad-crop", "flip"),
    "pad-crop-alternating-flip": ("pad-crop", "alternating-flip"),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_has_the_name_it_is_listed_under_and_the_transforms_of_that_name(name):
    policy = recipe("first", name).policy
    expected = {}
    for part in OF_SEVERAL.get(name, (name,)):
        expected |= TRANSFORMS[part]
    if name == "pad-crop-alternating-flip":
        expected["pad_crop"] = 2  # as airbench94 has it
    assert policy == Policy(name=name, **expected)


@pytest.mark.parametrize(
    ("arguments", "nearest", "valid"),
    [
        ({"augment": "none", "profile": "referense"}, "reference", "quick, reference, smoke"),
        ({"augment": "shift-filp"}, "shift-flip", "none, shift-flip, flip, shift, rotate, vertical-flip"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_valid_ones(arguments, nearest, valid):
    with pytest.raises(UsageError, match=f"Did you mean '{nearest}'") as caught:
        recipe("first", **arguments)
    assert valid in str(caught.value)


def test_a_name_similar_to_no_other_is_refused_without_a_suggestion():
    with pytest.raises(UsageError, match="Valid: none, ") as caught:
        recipe("first", "xyzzy")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nesterov", True),
        ("optimizer", "adam"),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", 0.5),
        ("dataset", "mnist"),
        ("train_images", 0),
        ("batch_size", 0),
        ("epochs", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("threads", 0),
        ("backend", "torch"),
    ],
)
def test_a_recipe_refuses_unknown_fields_and_values_out_of_range(field, value):
    with pytest.raises(ValidationError, match=rf"1 validation error for Recipe\n{field}\n"):
        Recipe(network="first", policy=POLICIES["none"], **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("zoom", 0.1), ("shift", -0.1), ("shift", 1.1), ("shift", float("nan")), ("rotation", -1), ("rotation", 181)],
)
def test_a_policy_refuses_unknown_fields_and_values_out_of_range(field, value):
    with pytest.raises(ValidationError, match=rf"1 validation error for Policy\n{field}\n"):
        Policy(name="own", **{field: value})


@pytest.mark.parametrize(("field", "value"), [("seed", 2**32 - 1), ("epochs", 1), ("train_images", 1)])
def test_a_recipe_accepts_the_ends_of_a_range(field, value):
    assert getattr(Recipe(network="first", policy=POLICIES["none"], **{field: value}), field) == value


def test_a_recipe_cannot_be_changed():
    original = recipe("first", "none")
    with pytest.raises(ValidationError, match="frozen"):
        original.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        original.policy.shift = 0.5
    assert original == recipe("first", "none")


def test_a_recipe_is_named_after_network_policy_and_seed():
    assert recipe("first", "shift-flip", seed=3).name == "first-shift-flip-s3"
    assert recipe("my.nets:wide", "none").name == "my.nets.wide-none-s0"


def test_a_grid_has_every_combination_once_with_all_of_a_seed_before_the_next():
    combinations = grid(["first", "my_module:build", "first"], ["none", "flip"], [1, 0, 1], epochs=3, threads=4)
    expected = [
        recipe(network, policy, seed=seed, epochs=3, threads=4)
        for seed in (1, 0)
        for network in ("first", "my_module:build")
        for policy in ("none", "flip")
    ]
    assert combinations == expected
    with pytest.raises(UsageError, match="Did you mean 'reference'"):
        grid(["first"], ["none"], [0], profile="referense")
