"""Recipes by name and from the user's own files, their fields by option, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from helpers.in_process import run_cli

from cifar.data.dataset import Dataset, draw_synthetic
from cifar.errors import UsageError
from cifar.networks import NETWORKS
from cifar.recipes import FIELDS, POLICIES, RECIPES, Recipe, read, recipe
from cifar.recipes.named import NOT_IN_A_FILE
from cifar.runs.run import Run
from cifar.training import loop

MINE = """
description = "A short one."
networks = ["second"]
augment = ["flip"]
optimizer = "adamw"
learning_rate = 0.002
schedule = "linear"
warmup = 0.25
batch_size = 64
epochs = 2

[network.second]
label_smoothing = 0.1
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_this_package_says_what_it_is_for_and_is_complete(name: str) -> None:
    file = read(name)
    assert file.description.endswith(".")
    assert file.source
    assert set(file.networks) <= set(NETWORKS)
    assert set(file.augment) <= set(POLICIES)
    for network in file.networks:
        full = recipe(network, file.augment[-1], file=file, profile="reference")
        assert full.recipe == name
        assert full.train_images is None


def test_a_field_of_a_recipe_is_set_in_a_file_or_when_it_is_trained() -> None:
    assert {*FIELDS, *NOT_IN_A_FILE} == set(Recipe.model_fields)


def test_a_file_of_ones_own_is_a_recipe(mine: Path) -> None:
    file = read(str(mine))
    full = recipe("second", "flip", file=file, profile="reference")
    assert (full.recipe, full.optimizer, full.label_smoothing, full.warmup) == ("mine", "adamw", 0.1, 0.25)
    assert recipe("first", "flip", file=file, profile="reference").label_smoothing == 0
    assert full.name == "second-mine-flip-s0"
    bfloat16 = recipe("second", "flip", file=file, profile="reference", fields={"precision": "bfloat16"})
    assert bfloat16.name == "second-mine-bfloat16-flip-s0"


def test_the_command_trains_a_file_of_ones_own(mine: Path, cifar: Command) -> None:
    output = cifar(
        "train", "--recipe", mine.name, "--data", "synthetic", "--epochs", "1", "--momentum", "0.5",
        "--optimizer", "sgd", "--seed", "3", "--json", "--quiet",
    )  # fmt: skip
    assert output.code == 0, output.err
    (facts,) = output.json["runs"]
    run = Run(mine.parent / facts["path"])
    assert run.path.name == "second-mine-flip-s3"
    assert (run.recipe.epochs, run.recipe.optimizer, run.recipe.momentum) == (1, "sgd", 0.5)
    shown = cifar("report", "runs").out
    assert "second (16-32-64) mine" in " ".join(shown.split())


def test_a_recipe_is_listed_shown_and_can_be_trained_from_what_is_shown(mine: Path) -> None:
    listed = run_cli(["recipes"])
    assert listed.code == 0
    assert all(len(line) <= 80 for line in listed.out.splitlines())
    assert all(name in listed.out for name in RECIPES)
    written = run_cli(["recipes", "tuned", "--to", "again.toml"])
    assert written.code == 0
    assert run_cli(["recipes", "tuned"]).out == mine.with_name("again.toml").read_text() == read("tuned").text
    assert read("again.toml").fields == read("tuned").fields
    for wrong in (["tuned", "--to", "again.toml"], ["--to", "all.toml"]):
        assert run_cli(["recipes", *wrong]).code == 2
    facts = run_cli(["recipes", "tuned", "--json"]).json["recipes"]
    assert facts[0]["networks"]["first"]["optimizer"] == "muon"


INVALID = {
    "unknown field": ("learning_rat = 1", "Did you mean 'learning_rate'"),
    "field of the command": ("seed = 3", "'seed' is chosen with an option"),
    "unknown value": ('optimizer = "adma"', "optimizer = 'adma': input should be 'rmsprop', 'sgd', 'adamw'"),
    "out of range": ("learning_rate = -1", "learning_rate = -1: input should be greater than 0"),
    "infinite": ("learning_rate = inf", "learning_rate = inf"),
    "wrong type": ('batch_size = "many"', "batch_size = 'many'"),
    "momentum alone": ("momentum = 0.9", "momentum needs optimizer sgd, not rmsprop"),
    "decay of rmsprop": ("weight_decay = 0.1", "weight_decay needs optimizer sgd or adamw or muon"),
    "constant that falls": ("final_rate = 0.1", "final_rate needs schedule linear or cosine"),
    "no warm-up": ("initial_rate = 0.1", "initial_rate needs a warmup above 0"),
    "decay alone": ("averaging_decay = 0.1", "averaging_decay needs weight_averaging lookahead"),
    "no decay": ('weight_averaging = "lookahead"', "needs an averaging_decay above 0"),
    "unknown policy": ('augment = ["shift-filp"]', "Did you mean 'shift-flip'"),
    "no TOML": ("epochs = ", "not TOML"),
    "network table": ("network = 3", "network = 3"),
    "in a network's table": ("[network.second]\nepoch = 3", "Did you mean 'epochs'"),
    "unknown precision": ('precision = "float16"', "input should be 'float32' or 'bfloat16'"),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_file_is_one_sentence(mine: Path, case: str) -> None:
    text, message = INVALID[case]
    mine.write_text(f'networks = ["second"]\n{text}\n')
    output = run_cli(["train", "--recipe", "mine.toml", "--data", "synthetic"])
    assert output.code == 2, output.err
    assert isinstance(output.err, str)
    assert message in output.err.replace("\n", " ")
    assert output.err.count("error: ") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "not UTF-8"),
        (b"#" * 70_000, "at most 64 kB"),
        (b"", "networks"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(mine: Path, content: bytes | None, message: str) -> None:
    mine.unlink()
    if content is not None:
        mine.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read(str(mine))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "tuend"), "Did you mean 'tuned'"),
        (("--recipe", "tuned", "--profile", "quick"), "give one of them"),
        (("--recipe", "tuned", "--optimizer", "adma"), "tuned: optimizer = 'adma'"),
        (("--momentum", "0.9"), "momentum needs optimizer sgd"),
        (("--hold-out", "5000"), "hold_out 5000: there are only"),
        (("--recipe", "tuned", "--learning-rate", "0"), "greater than 0"),
    ],
)
def test_an_invalid_request_has_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    output = run_cli(["train", "--data", "synthetic", "--network", "second", *arguments])
    assert output.code == 2
    assert message in output.err.replace("\n", " ")


# Held-out training images


def test_held_out_images_take_the_place_of_the_test_images(small: Dataset) -> None:
    wanted = recipe("second", "none", dataset="synthetic", fields={"hold_out": 60})
    data = loop.training_data(wanted, small)
    np.testing.assert_array_equal(data.x_train, small.x_train[:240])
    np.testing.assert_array_equal(data.x_test, small.x_train[240:])
    np.testing.assert_array_equal(data.y_test, small.y_train[240:])


def test_a_held_out_run_never_reads_a_test_image_and_is_no_result(cifar: Command, tmp_path: Path) -> None:
    arguments = ("train", "--network", "second", "--augment", "none", "--data", "synthetic", "--epochs", "1")
    output = cifar(*arguments, "--hold-out", "500", "--quiet")
    assert output.code == 0, output.err
    assert "Scores of 500 held-out training images" in output.out
    name = "second-holdout500-none-s0"
    run = Run(tmp_path / "runs" / name)
    assert run.metrics.hold_out == run.metrics.n_test == 500
    labels = run.predictions()[1]
    np.testing.assert_array_equal(labels, draw_synthetic().y_train[-500:])
    for command in ("export", "evaluate", "verify"):
        refused = cifar(command, f"runs/{name}")
        assert refused.code == 2
        assert "held-out training images" in refused.err
    cifar(*arguments, "--quiet")
    report = json.loads(cifar("report", "runs", "--json").out)
    assert [Path(facts["path"]).name for facts in report["runs"]] == ["second-none-s0"]
    assert f"{name} scored held-out training images" in " ".join(cifar("report", "runs").out.split())


def test_what_a_run_scores_does_not_change_its_weights(small: Dataset, tmp_path: Path) -> None:
    from conftest import train_here

    wanted: Any = recipe("second", "none", epochs=1, dataset="synthetic", fields={"hold_out": 60})
    (run,) = train_here([wanted], small, tmp_path / "one")
    poisoned = Dataset(
        small.name, small.official, small.class_names, small.x_train, small.y_train,
        255 - small.x_test, (small.y_test + 1) % 10,
    )  # fmt: skip
    (other,) = train_here([wanted], poisoned, tmp_path / "other")
    assert run.metrics.model_dump(include={"weights_sha256", "accuracy", "loss"}) == other.metrics.model_dump(
        include={"weights_sha256", "accuracy", "loss"}
    )
