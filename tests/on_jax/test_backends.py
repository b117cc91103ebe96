"""JAX trains the same recipes on the same images; TensorFlow scores and exports its runs."""

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
from cifar.analysis.comparisons import between_backends
from cifar.data import augmentation
from cifar.data.dataset import Dataset, draw_synthetic
from cifar.errors import CifarError
from cifar.recipes import POLICIES, Policy, recipe
from cifar.report import detail_tables
from cifar.runs.run import Run
from cifar.system import environment
from cifar.training import backends, loop
from cifar.training.backends import jax as on_jax
from cifar.training.backends import jax_augmentation
from cifar.training.callback import SilentCallback

WITH_JAX = {"KERAS_BACKEND": "jax"}
RUN = "runs/tinynet.build-all-s0"
TRAIN = ("train", "--network", "tinynet:build", "--data", "synthetic", "--epochs", "2", "--quiet", "--json")
FIRST_STEP = """
import sys
import numpy as np
from cifar.data.dataset import draw_synthetic
from cifar.recipes import Recipe
from cifar.system import environment
from cifar.training import backends, loop
from cifar.training.callback import SilentCallback

environment.configure(2, backend="jax")
import keras

recipe = Recipe.model_validate_json(sys.argv[1])
data = draw_synthetic(recipe.batch_size, 1)
model = loop.build_and_compile(recipe, data)
with np.load("weights.npz") as weights:
    model.set_weights([weights[name] for name in weights.files])
loss, accuracy = backends.epoch_trainer(model, recipe, data)(1, SilentCallback())
print(repr(loss), repr(accuracy), keras.backend.backend())
"""
BLOCKS_OF_STEPS = """
import sys
from cifar.data.dataset import draw_synthetic
from cifar.recipes import Recipe
from cifar.system import environment
from cifar.training import backends, loop
from cifar.training.backends import jax as on_jax
from cifar.training.callback import SilentCallback

environment.configure(2, backend="jax")
import numpy as np

recipe, data = Recipe.model_validate_json(sys.argv[1]), draw_synthetic(300, 1)
results, split_into_blocks = [], on_jax.split_into_blocks
for max_steps in (1, 300):
    on_jax.split_into_blocks = lambda visits, batch_size, _: split_into_blocks(visits, batch_size, max_steps)
    model = loop.build_and_compile(recipe, data)
    loss, _ = backends.epoch_trainer(model, recipe, data)(1, SilentCallback())
    results.append((loss, np.concatenate([weight.ravel() for weight in model.get_weights()])))
print(abs(results[0][0] - results[1][0]), np.abs(results[0][1] - results[1][1]).max())
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on JAX in runs/, in a folder with its network."""
    folder = tmp_path_factory.mktemp("jax")
    (folder / "tinynet.py").write_text(TINY)
    done = command(folder, *TRAIN, "--augment", "all")
    assert done.returncode == 0, done.stderr
    assert "Training with JAX" in done.stderr
    return folder


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cifar", *arguments],
        cwd=folder, env=isolated(folder, **WITH_JAX), capture_output=True, text=True,
    )  # fmt: skip


def test_a_run_records_the_backend_that_trained_it(trained: Path) -> None:
    run = Run(trained / RUN)
    assert run.recipe.backend == "jax"
    assert run.environment["packages"]["jax"] is not None
    assert run.environment["settings"]["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"
    assert environment.reproducibility_key(run.environment)["jaxlib"] == run.environment["packages"]["jaxlib"]


def test_its_exports_were_checked_and_it_is_scored_on_tensorflow(trained: Path) -> None:
    run = Run(trained / RUN)
    entries = json.loads((run.path / "exports" / "manifest.json").read_text())["models"]
    assert [entry["format"] for entry in entries] == ["onnx", "saved-model", "tflite"]
    assert {entry["agreement"] for entry in entries} == {1.0}
    done = command(trained, "evaluate", str(run.path), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] == run.metrics.accuracy
    done = command(trained, "export", str(run.path), "--format", "onnx-int8", "--max-drop", "20", "--to", "int8")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_on_jax_is_verified_on_jax_killed_and_resumed(trained: Path) -> None:
    done = command(trained, "verify", RUN, "--check", "repeated,interrupted", "--check", "images", "--json")
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert [check["check"] for check in checks] == ["repeated", "interrupted", "images"]
    assert [check["result"] for check in checks] == ["equal"] * 3


def test_another_backend_is_another_run_and_the_report_compares_them(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.setattr(sys, "path", [str(trained), *sys.path])
    monkeypatch.delitem(sys.modules, "tinynet", raising=False)
    on_jax_run = Run(trained / RUN)
    recipes = [on_jax_run.recipe.model_copy(update={"backend": "tensorflow", "seed": seed}) for seed in (0, 1)]
    tensorflow_runs = train_here(recipes, draw_synthetic(), tmp_path)
    both = summary.summarise([*tensorflow_runs, on_jax_run])
    (comparison,) = between_backends(both.groups)
    assert (comparison.backend, comparison.first.n, comparison.second.n) == ("jax", 2, 1)
    assert comparison.interval is None
    assert comparison.first.mean == pytest.approx(np.mean([run.metrics.accuracy for run in tensorflow_runs]))
    assert comparison.second.mean == on_jax_run.metrics.accuracy
    assert len({group.name for group in both.groups}) == len(both.groups) == 2
    (table,) = [table for table in detail_tables.details(both) if table.title == "Another backend"]
    assert table.rows[0][2:4] == ("jax", "2, 1")
    assert between_backends(summary.summarise(tensorflow_runs).groups) == []


@pytest.mark.parametrize("network", ["tinynet:without_dropout", "second"])
def test_the_first_step_from_the_same_weights_has_the_same_loss(tiny: Path, network: str) -> None:
    wanted = recipe(network, "shift-flip-rotate", dataset="synthetic").model_copy(update={"batch_size": 64})
    model = loop.build_and_compile(wanted, draw_synthetic(64, 1))
    for layer in model.layers:
        if type(layer).__name__ == "Dropout":
            layer.rate = 0.0
    np.savez(tiny / "weights.npz", *model.get_weights())
    loss, accuracy = backends.epoch_trainer(model, wanted, draw_synthetic(64, 1))(1, SilentCallback())
    script = FIRST_STEP.replace("with np.load", "for layer in model.layers:\n    layer.rate = 0.0\nwith np.load")
    process = subprocess.run(
        [sys.executable, "-c", script, wanted.model_copy(update={"backend": "jax"}).model_dump_json()],
        cwd=tiny, env=isolated(tiny, **WITH_JAX), capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    jax_loss, jax_accuracy, backend = process.stdout.split()
    assert backend == "jax"
    assert float(jax_loss) == pytest.approx(loss, abs=1e-4)
    assert float(jax_accuracy) == accuracy


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_images_have_the_same_bits_or_differ_by_a_grey_level_where_they_are_rotated(
    small: Dataset, policy: str
) -> None:
    drawn = augmentation.draw(POLICIES[policy], 7, 1, len(small.x_train))
    with_numpy = augmentation.apply(small.x_train, drawn)
    with_jax = jax_augmentation.augment(small.x_train, drawn)
    assert not (with_jax == small.x_train).all()
    difference = np.abs(with_numpy.astype(int) - with_jax)
    assert difference.max() <= (1 if POLICIES[policy].rotation else 0)
    assert (difference > 0).mean() < 0.001
    halves = [slice(0, 111), slice(111, None)]
    parts = [jax_augmentation.augment(small.x_train[half], drawn[half]) for half in halves]
    assert (np.concatenate(parts) == with_jax).all()


WITHOUT_ROTATION = st.builds(
    Policy,
    name=st.just("any"),
    horizontal_flip=st.booleans(),
    vertical_flip=st.booleans(),
    shift=st.sampled_from([0.0, 0.1, 0.3]),
    whole_pixels=st.booleans(),
    pad_crop=st.sampled_from([0, 1, 4, 16]),
    alternating_flip=st.booleans(),
    cutout=st.sampled_from([0, 1, 8, 9, 32]),
)


@settings(max_examples=60, deadline=None)
@given(images=arrays(np.uint8, (2, 32, 32, 3)), policy=WITHOUT_ROTATION, seed=st.integers(0, 2**32 - 1))
def test_any_policy_without_rotation_gives_any_image_the_same_bits(
    images: np.ndarray, policy: Policy, seed: int
) -> None:
    drawn = augmentation.draw(policy, seed, 1, 2)
    assert (jax_augmentation.augment(images, drawn) == augmentation.apply(images, drawn)).all()


@given(n=st.integers(1, 300), batch_size=st.integers(1, 64), max_steps=st.integers(1, 400))
def test_blocks_visit_every_image_once_in_order(n: int, batch_size: int, max_steps: int) -> None:
    visits = np.random.default_rng(n).permutation(n)
    blocks = list(on_jax.split_into_blocks(visits, batch_size, max_steps))
    assert np.concatenate([block.ravel() for block in blocks]).tolist() == visits.tolist()
    full_blocks = blocks[: n // batch_size // max_steps]
    assert all(block.shape[1] == batch_size and len(block) <= max_steps for block in full_blocks)
    assert sum(block.shape[1] != batch_size for block in blocks) == (n % batch_size > 0)


def test_many_steps_in_one_call_equal_single_steps(tiny: Path) -> None:
    """What a GPU does: an epoch in a call and its last batch in another."""
    wanted = recipe("tinynet:build", "all", dataset="synthetic", backend="jax")
    process = subprocess.run(
        [sys.executable, "-c", BLOCKS_OF_STEPS, wanted.model_dump_json()],
        cwd=tiny, env=isolated(tiny, **WITH_JAX), capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    loss_difference, max_weight_difference = map(float, process.stdout.split())
    assert loss_difference < 1e-5
    assert max_weight_difference < 1e-3


def test_a_loss_that_is_nan_ends_the_run(tiny: Path) -> None:
    done = command(tiny, *[part.replace("build", "exploding") for part in TRAIN], "--augment", "none")
    assert done.returncode == 1
    run = Run(tiny / "runs" / "tinynet.exploding-none-s0")
    assert run.diverged
    assert "epoch 1, after 64 of its images" in run.divergence


def test_too_little_memory_is_reported_in_a_sentence() -> None:
    from jax.errors import JaxRuntimeError

    with pytest.raises(CifarError, match=r"^The memory of .* is too small"), on_jax._explained_out_of_memory():
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
    with pytest.raises(JaxRuntimeError, match="INTERNAL"), on_jax._explained_out_of_memory():
        raise JaxRuntimeError("INTERNAL: something else")


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        ({"KERAS_BACKEND": "torch"}, (), "no backend for KERAS_BACKEND 'torch'"),
        ({"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_dump_to=x"}, (), "XLA_FLAGS=--xla_dump_to=x is set"),
        ({"KERAS_BACKEND": "jax"}, ("--device", "gpu"), "JAX sees no GPU here"),
        ({}, ("--device", "gpu"), "TensorFlow sees no GPU here"),
        ({}, ("--device", "tpu"), "tpu"),
    ],
)
def test_a_missing_backend_or_device_has_exit_code_2(
    tmp_path: Path, variables: dict[str, str], arguments: tuple[str, ...], message: str
) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "cifar", "train", "--network", "second", "--data", "synthetic", *arguments],
        cwd=tmp_path, env=isolated(tmp_path, **variables), capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 2, process.stderr
    assert message in " ".join(process.stderr.split())
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "runs").exists()
