"""JAX trains the same recipes: the same images, the same first step; TensorFlow scores and exports its runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, isolated, train_here
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cifar.analysis import summary
from cifar.data import augmentation
from cifar.data.dataset import Dataset, draw_synthetic
from cifar.errors import CifarError
from cifar.recipes import POLICIES, recipe
from cifar.report import tables
from cifar.runs.run import Run
from cifar.system import environment
from cifar.training import backends, loop
from cifar.training.backends import jax as on_jax
from cifar.training.callback import SilentCallback

WITH_JAX = {"KERAS_BACKEND": "jax"}
RUN = "runs/tinynet.build-all-s0"
TRAIN = ("train", "--network", "tinynet:build", "--data", "synthetic", "--epochs", "2", "--quiet", "--json")
FIRST_STEP = """
import sys
import numpy as np
from cifar import backends, environment, training
from cifar.data.dataset import draw_synthetic
from cifar.recipes import Recipe
from cifar.report import summary, tables
from cifar.report.progress import SilentCallback

environment.configure(2, backend="jax")
import keras

asked = Recipe.model_validate_json(sys.argv[1])
model = loop.build_and_compile(asked)
with np.load("weights.npz") as weights:
    model.set_weights([weights[name] for name in weights.files])
loss, accuracy = backends.epoch_trainer(model, asked, draw_synthetic(asked.batch_size, 1))(1, SilentCallback())
print(repr(loss), repr(accuracy), keras.backend.backend())
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on JAX in runs/, in a folder with its network."""
    folder = tmp_path_factory.mktemp("jax")
    (folder / "tinynet.py").write_text(TINY)
    done = command(folder, *TRAIN, "--augment", "all")
    assert done.returncode == 0, done.stderr
    assert "Trained by JAX" in done.stderr
    return folder


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cifar", *arguments],
        cwd=folder, env=isolated(folder, **WITH_JAX), capture_output=True, text=True,
    )  # fmt: skip


def test_a_run_says_which_backend_trained_it(trained: Path) -> None:
    run = Run(trained / RUN)
    assert run.recipe.backend == "jax"
    assert run.environment["packages"]["jax"] is not None
    assert run.environment["settings"]["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"
    assert environment.key(run.environment)["jaxlib"] == run.environment["packages"]["jaxlib"]


def test_its_exports_were_proven_and_it_is_scored_on_tensorflow(trained: Path) -> None:
    run = Run(trained / RUN)
    lines = json.loads((run.path / "exports" / "manifest.json").read_text())["models"]
    assert [line["format"] for line in lines] == ["onnx", "saved-model", "tflite"]
    assert {line["agreement"] for line in lines} == {1.0}
    done = command(trained, "evaluate", str(run.path), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] == run.metrics.accuracy
    done = command(trained, "export", str(run.path), "--format", "onnx-int8", "--max-drop", "20", "--to", "int8")
    assert done.returncode == 0, done.stderr


def test_a_run_on_jax_is_verified_on_jax_killed_and_resumed(trained: Path) -> None:
    done = command(
        trained, "verify", RUN, "--rung", "repeated", "--rung", "interrupted", "--rung", "images", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert [rung["result"] for rung in json.loads(done.stdout)["rungs"]] == ["equal"] * 3


def test_another_backend_is_another_run_and_the_report_compares_them(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.setattr(sys, "path", [str(trained), *sys.path])
    monkeypatch.delitem(sys.modules, "tinynet", raising=False)
    theirs = Run(trained / RUN)
    ours = [theirs.recipe.model_copy(update={"backend": "tensorflow", "seed": seed}) for seed in (0, 1)]
    runs = [*train_here(ours, draw_synthetic(), tmp_path), theirs]
    whole = summary.summarise(runs)
    (versus,) = whole.between_backends()
    assert (versus.backend, versus.first.n, versus.second.n, versus.interval) == ("jax", 2, 1, None)
    assert versus.first.mean == pytest.approx(np.mean([run.metrics.accuracy for run in runs[:2]]))
    assert versus.second.mean == theirs.metrics.accuracy
    assert len({group.name for group in whole.groups}) == len(whole.groups) == 2
    (table,) = (made for made in tables.sections(whole, "first") if made.title == "Another backend")
    assert table.rows[0][2:4] == ("jax", "2, 1")
    assert summary.summarise(runs[:2]).between_backends() == []


@pytest.mark.parametrize("network", ["tinynet:without_dropout", "second"])
def test_the_first_step_from_the_same_weights_has_the_same_loss(tiny: Path, network: str) -> None:
    wanted = recipe(network, "shift-flip-rotate", dataset="synthetic").model_copy(update={"batch_size": 64})
    model = loop.build_and_compile(wanted)
    for layer in model.layers:
        if type(layer).__name__ == "Dropout":
            layer.rate = 0.0
    np.savez(tiny / "weights.npz", *model.get_weights())
    loss, accuracy = backends.epoch_trainer(model, wanted, draw_synthetic(64, 1))(1, SilentCallback())
    script = FIRST_STEP.replace("with np.load", "for layer in model.layers:\n    layer.rate = 0.0\nwith np.load")
    answer = subprocess.run(
        [sys.executable, "-c", script, wanted.model_copy(update={"backend": "jax"}).model_dump_json()],
        cwd=tiny, env=isolated(tiny, **WITH_JAX), capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    there, right, backend = answer.stdout.split()
    assert backend == "jax"
    assert float(there) == pytest.approx(loss, abs=1e-4)
    assert float(right) == accuracy


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_images_have_the_same_bits_or_a_grey_level_between_them_where_they_are_turned(
    small: Dataset, policy: str
) -> None:
    drawn = augmentation.draw(POLICIES[policy], 7, 1, len(small.x_train))
    here = augmentation.apply(small.x_train, drawn)
    there = on_jax.augmented(small.x_train, drawn)
    assert not (there == small.x_train).all()
    apart = np.abs(here.astype(int) - there)
    assert apart.max() <= (1 if POLICIES[policy].rotation else 0)
    assert (apart > 0).mean() < 0.001
    halves = [slice(0, 111), slice(111, None)]
    pieces = [on_jax.augmented(small.x_train[half], drawn[half]) for half in halves]
    assert (np.concatenate(pieces) == there).all()


@settings(max_examples=30, deadline=None)
@given(
    images=arrays(np.uint8, (2, 32, 32, 3)),
    policy=st.sampled_from([policy for policy in POLICIES.values() if not policy.rotation]),
    seed=st.integers(0, 2**32 - 1),
)
def test_shifts_and_flips_of_any_image_have_the_same_bits(images: np.ndarray, policy: object, seed: int) -> None:
    drawn = augmentation.draw(policy, seed, 1, 2)  # type: ignore[arg-type]
    assert (on_jax.augmented(images, drawn) == augmentation.apply(images, drawn)).all()


@given(n=st.integers(1, 300), batch=st.integers(1, 64), most=st.integers(1, 400))
def test_blocks_visit_every_image_once_in_order(n: int, batch: int, most: int) -> None:
    visits = np.random.default_rng(n).permutation(n)
    made = list(on_jax.blocks(visits, batch, most))
    assert np.concatenate([block.ravel() for block in made]).tolist() == visits.tolist()
    assert all(block.shape[1] == batch and len(block) <= most for block in made[: n // batch // most])
    assert sum(block.shape[1] != batch for block in made) == (n % batch > 0)


def test_many_steps_in_one_call_are_the_steps_one_by_one(tiny: Path) -> None:
    """What a GPU does: an epoch in a call and its last batch in another."""
    script = """
import sys
from cifar import backends, environment, networks, training
from cifar.training.backends import jax as room
from cifar.data.dataset import draw_synthetic
from cifar.recipes import Recipe
from cifar.report import summary, tables
from cifar.report.progress import SilentCallback

environment.configure(2, backend="jax")
import jax, numpy as np

asked, data = Recipe.model_validate_json(sys.argv[1]), draw_synthetic(300, 1)
ends, whole = [], room.blocks
for most in (1, 300):
    room.blocks = lambda visits, batch, _, most=most: whole(visits, batch, most)
    model = loop.build_and_compile(asked)
    loss, _ = backends.epoch_trainer(model, asked, data)(1, SilentCallback())
    ends.append((loss, np.concatenate([weight.ravel() for weight in model.get_weights()])))
print(abs(ends[0][0] - ends[1][0]), np.abs(ends[0][1] - ends[1][1]).max())
"""
    wanted = recipe("tinynet:build", "all", dataset="synthetic", backend="jax")
    answer = subprocess.run(
        [sys.executable, "-c", script, wanted.model_dump_json()],
        cwd=tiny, env=isolated(tiny, **WITH_JAX), capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    loss, weights = map(float, answer.stdout.split())
    assert loss < 1e-5
    assert weights < 1e-3


def test_a_loss_that_is_no_number_ends_the_run(tiny: Path) -> None:
    done = command(tiny, *[part.replace("build", "exploding") for part in TRAIN], "--augment", "none")
    assert done.returncode == 1
    run = Run(tiny / "runs" / "tinynet.exploding-none-s0")
    assert run.diverged
    assert "epoch 1, after 64 of its images" in run.divergence


def test_memory_that_is_too_small_is_told_in_a_sentence() -> None:
    from jax.errors import JaxRuntimeError

    with pytest.raises(CifarError, match=r"^The memory of .* is too small"), on_jax._memory_in_words():
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
    with pytest.raises(JaxRuntimeError, match="INTERNAL"), on_jax._memory_in_words():
        raise JaxRuntimeError("INTERNAL: something else")


@pytest.mark.parametrize(
    ("variables", "arguments", "words"),
    [
        ({"KERAS_BACKEND": "torch"}, (), "no backend for KERAS_BACKEND 'torch'"),
        ({"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_dump_to=x"}, (), "XLA_FLAGS=--xla_dump_to=x is set"),
        ({"KERAS_BACKEND": "jax"}, ("--device", "gpu"), "JAX sees no GPU here"),
        ({}, ("--device", "gpu"), "TensorFlow sees no GPU here"),
        ({}, ("--device", "tpu"), "tpu"),
    ],
)
def test_what_is_not_there_is_exit_2(
    tmp_path: Path, variables: dict[str, str], arguments: tuple[str, ...], words: str
) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "cifar", "train", "--network", "second", "--data", "synthetic", *arguments],
        cwd=tmp_path, env=isolated(tmp_path, **variables), capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 2, answer.stderr
    assert words in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "runs").exists()
