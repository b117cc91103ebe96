"""Shared by the tests: a small data set, runs trained once, and the command line in a process of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers.in_process import Output

from cifar import export
from cifar.analysis.summary import Summary, summarise
from cifar.data import dataset
from cifar.data.dataset import Dataset
from cifar.formats import FORMATS
from cifar.recipes import Recipe, recipe
from cifar.runs.run import Run
from cifar.system import environment
from cifar.training import grid
from cifar.training.callback import SilentCallback

# Before a test module imports Keras: TensorFlow reads its variables when it is imported, and without them leaves
# oneDNN out on processors without AVX-512. The processes that tests start have them.
os.environ.update(environment.BACKENDS["tensorflow"].on("cpu"))
ROOT = Path(__file__).parent.parent
TINY = """
import keras
from keras import layers


def build():
    return keras.Sequential([
        keras.Input((32, 32, 3), dtype="uint8"),
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, strides=4, activation="relu"),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(10, activation="softmax"),
    ])


def without_dropout():
    kept = [layer for layer in build().layers if not isinstance(layer, layers.Dropout)]
    return keras.Sequential([keras.Input((32, 32, 3), dtype="uint8"), *kept])


def shapeless():
    return keras.Sequential([layers.Flatten(), layers.Dense(10, activation="softmax")])


def exploding():
    return keras.Sequential([
        keras.Input((32, 32, 3)),
        layers.Rescaling(1e38),
        layers.Flatten(),
        layers.Dense(10, activation="softmax", kernel_initializer="ones"),
    ])


def logits():
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(10)])


class Scaled(layers.Layer):
    # not registered with Keras

    def call(self, inputs):
        return inputs / 255


def unregistered():
    return keras.Sequential([
        keras.Input((32, 32, 3)),
        Scaled(),
        layers.Lambda(lambda x: x * 2),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])


class Unsaveable(layers.Layer):
    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def call(self, inputs):
        return inputs


def unsaveable():
    return keras.Sequential([
        keras.Input((32, 32, 3)),
        Unsaveable(object()),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])


class Choosy(layers.Layer):
    def call(self, inputs):
        import tensorflow as tf
        tf.debugging.assert_less(inputs, -1.0, "the pictures are too bright")
        return inputs


def choosy():
    return keras.Sequential([
        keras.Input((32, 32, 3)),
        Choosy(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def subclassed():
    return Subclassed()


def normalised():
    return keras.Sequential([
        keras.Input((32, 32, 3)),
        layers.Normalization(mean=[120.0, 121.0, 122.0], variance=[60.0, 61.0, 62.0]),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])


def raw():
    return keras.Sequential([
        keras.Input((32, 32, 3)),
        layers.Conv2D(4, 3, strides=4, activation="relu"),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])


def wide():
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(11, activation="softmax")])


def nothing():
    return None


def failing():
    raise RuntimeError("out of ideas")
"""


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Some files have no test that needs the machine for itself; that is no failure."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.markexpr:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session", autouse=True)
def _tensorflow() -> None:
    environment.configure(threads=2)


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is exported here is remembered here, and not in the user's data folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


@pytest.fixture(scope="session")
def small() -> Dataset:
    """300 training and 100 test pictures."""
    return dataset.draw_synthetic(300, 100)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder holds a user's module `tinynet`."""
    (tmp_path / "tinynet.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "tinynet", raising=False)
    return tmp_path


def train_here(recipes: Sequence[Recipe], data: Dataset, runs: Path) -> list[Run]:
    """Train in this process, silently."""
    notes: list[str] = []
    outcomes = grid.train_all(
        recipes, data, runs, lambda _recipe, _number: nullcontext(SilentCallback()), notes.append
    )
    assert all(outcome.run for outcome in outcomes), notes
    return [outcome.run for outcome in outcomes if outcome.run]


@pytest.fixture(scope="session")
def pair(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """`second`, plain and augmented, three epochs."""
    wanted = [recipe("second", name, epochs=3, dataset="synthetic") for name in ("none", "shift-flip")]
    return train_here(wanted, small, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def summary(pair: list[Run], small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """Two runs, the first exported to integers too."""
    folder = tmp_path_factory.mktemp("report")
    runs = [Run(Path(shutil.copytree(run.path, folder / run.path.name))) for run in pair]
    export.export_runs(runs[:1], small, ["onnx", "onnx-int8"], max_drop=100)
    return summarise(runs)


@pytest.fixture(scope="session")
def six_runs(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """The three networks, each plain and augmented, one epoch."""
    recipes = []
    for network in ("first", "second", "third"):
        for augment in ("none", "shift-flip"):
            recipes.append(recipe(network, augment, epochs=1, dataset="synthetic"))
    return train_here(recipes, small, tmp_path_factory.mktemp("six"))


@pytest.fixture(scope="session")
def policy_runs(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Run]:
    """`second` under several policies and seeds, six epochs, by policy and seed."""
    seeds = {"none": (0, 1, 2), "flip": (0,), "rotate": (0,), "shift-flip": (0, 1, 2)}
    recipes = []
    for augment in seeds:
        for seed in seeds[augment]:
            recipes.append(recipe("second", augment, seed=seed, epochs=6, dataset="synthetic"))
    runs = train_here(recipes, small, tmp_path_factory.mktemp("policies"))
    return {(run.recipe.policy.name, run.recipe.seed): run for run in runs}


@pytest.fixture(scope="session")
def exported(pair: list[Run], small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of the pair in every format."""
    folder = tmp_path_factory.mktemp("exports")
    export.export_runs(pair[:1], small, FORMATS, folder, max_drop=100)
    return folder


Command = Callable[..., Output]


@pytest.fixture
def cifar(tmp_path: Path) -> Command:
    """Run `cifar` in a fresh process, in tmp_path, with no data set but what the arguments name."""

    def run(*arguments: str | Path, timeout: float = 1800, **variables: str) -> Output:
        done = subprocess.run(
            [sys.executable, "-m", "cifar", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=isolated(tmp_path, **variables),
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Output(done.returncode, done.stdout, done.stderr)

    return run


def isolated(home: Path, **variables: str) -> dict[str, str]:
    """An environment without the user's data, caches and colours, whose network ends at this machine."""
    removed = ("CIFAR10_DIR", "CIFAR10_URL", "COLUMNS")
    kept = {}
    for name, value in os.environ.items():
        if name not in removed and not name.startswith("PYTEST"):  # a pytest within pytest is one of its own
            kept[name] = value
    nowhere = "http://127.0.0.1:9"
    return {
        **kept,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "data"),
        "KERAS_HOME": str(home / "keras"),
        "HTTPS_PROXY": nowhere,
        "https_proxy": nowhere,
        "PYTHONPATH": str(ROOT),
        **variables,
    }
