import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import isolated, train_here

from cifar import networks
from cifar.data.dataset import Dataset, draw_synthetic
from cifar.errors import UsageError
from cifar.metrics import classification
from cifar.recipes import Recipe, read, recipe
from cifar.runs.run import Run, locked_run, runs_in
from cifar.runs.schemas import Epoch, Identity, Timing
from cifar.training import backends, checkpoint, loop
from cifar.training.backends.tensorflow import batches
from cifar.training.callback import Callback, SilentCallback


def small_recipe(network: str = "second", augment: str = "shift-flip", **changes: Any) -> Recipe:
    return recipe(network, augment, epochs=3, dataset="synthetic").model_copy(update=changes)


class KilledError(Exception):
    pass


class KillAfter(SilentCallback):
    """Ends training as a kill would, once an epoch is on disk."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, line: Epoch, timing: Timing) -> None:  # noqa: ARG002
        if line.epoch == self.last:
            raise KilledError


class CopyAfterEveryEpoch(SilentCallback):
    """Copies the folder of runs after every epoch: the state in which a kill would leave it."""

    def __init__(self, runs: Path, copies: Path) -> None:
        self.runs = runs
        self.copies = copies

    def epoch(self, line: Epoch, timing: Timing) -> None:  # noqa: ARG002
        shutil.copytree(self.runs, self.copies / str(line.epoch))


def start(wanted: Recipe, data: Dataset, runs: Path, callback: Callback) -> None:
    identity = Identity.of(wanted, data.sha256, loop.architecture_hash(wanted))
    with locked_run(runs, identity) as run:
        loop.train(run, data, callback)


def start_and_kill(wanted: Recipe, data: Dataset, runs: Path, epoch: int) -> None:
    with pytest.raises(KilledError):
        start(wanted, data, runs, KillAfter(epoch))


@pytest.fixture(scope="session")
def uninterrupted(pair: list[Run]) -> Run:
    """The run of small_recipe(), trained without interruption."""
    assert pair[1].recipe == small_recipe()
    return pair[1]


@pytest.fixture(scope="session")
def killed_runs(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the folders of runs 1, 2 and 3: small_recipe(), killed after so many epochs."""
    folder = tmp_path_factory.mktemp("killed")
    start(small_recipe(), small, folder / "runs", CopyAfterEveryEpoch(folder / "runs", folder))
    return folder


@pytest.fixture
def killed_after_one_epoch(killed_runs: Path, tmp_path: Path) -> Path:
    """A folder of runs, which a test may change."""
    return Path(shutil.copytree(killed_runs / "1", tmp_path / "runs"))


def facts(run: Run) -> tuple[str, bytes, list[bytes]]:
    """All that must be equal to the bit: weights, history, predictions."""
    probabilities, labels = run.predictions()
    history = (run.path / "history.jsonl").read_bytes()
    return run.metrics.weights_sha256, history, [probabilities.tobytes(), labels.tobytes()]


def test_the_same_recipe_gives_the_same_run_and_another_seed_another(
    uninterrupted: Run, tmp_path: Path, small: Dataset
) -> None:
    other_seed, same = train_here([small_recipe(seed=1), small_recipe()], small, tmp_path)
    assert facts(same) == facts(uninterrupted)
    assert facts(other_seed)[0] != facts(uninterrupted)[0]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(
    uninterrupted: Run, killed_runs: Path, tmp_path: Path, small: Dataset, epoch: int
) -> None:
    shutil.copytree(killed_runs / str(epoch), tmp_path / "runs")
    (killed,) = runs_in(tmp_path / "runs")
    assert (len(killed.history), killed.status) == (epoch, "interrupted")
    (resumed,) = train_here([small_recipe()], small, tmp_path / "runs")
    assert facts(resumed) == facts(uninterrupted)
    assert not (resumed.path / "checkpoint.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "network"), [("tuned", "second"), ("resnet8", "resnet8"), ("airbench94", "airbench94")]
)
def test_a_recipe_trained_twice_or_killed_and_resumed_has_one_digest(
    tmp_path: Path, name: str, network: str, precision: str
) -> None:
    """Schedules, momentum, moving averages, running statistics and whitening are in the weights or the checkpoint."""
    file = read(name)
    fields = {"batch_size": 50, "precision": precision}
    wanted = recipe(
        network, file.augment[-1], file=file, profile="reference", epochs=2, fields=fields, dataset="synthetic"
    )
    data = draw_synthetic(220, 100)  # with a partial batch, left out by airbench94
    once, again = (train_here([wanted], data, tmp_path / folder)[0] for folder in ("once", "again"))
    start_and_kill(wanted, data, tmp_path / "killed", 1)
    (resumed,) = train_here([wanted], data, tmp_path / "killed")
    assert facts(again) == facts(once)
    assert facts(resumed) == facts(once)


def test_an_exception_leaves_what_a_kill_would(uninterrupted: Run, tmp_path: Path, small: Dataset) -> None:
    start_and_kill(small_recipe(), small, tmp_path, 2)
    (resumed,) = train_here([small_recipe()], small, tmp_path)
    assert facts(resumed) == facts(uninterrupted)


@pytest.mark.parametrize("omitted", ["optimizer", "seed_generator", "kernel"])
def test_a_checkpoint_without_part_of_the_state_would_be_noticed(
    uninterrupted: Run, tmp_path: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch, omitted: str
) -> None:
    def part_of_state(model: Any) -> list[Any]:
        optimizer = [] if omitted == "optimizer" else model.optimizer.variables
        return [*(variable for variable in model.variables if omitted not in variable.path), *optimizer]

    monkeypatch.setattr(checkpoint, "state", part_of_state)
    start_and_kill(small_recipe(), small, tmp_path, 2)
    (resumed,) = train_here([small_recipe()], small, tmp_path)
    assert facts(resumed)[0] != facts(uninterrupted)[0]


def test_a_kill_between_checkpoint_and_history_loses_nothing(
    uninterrupted: Run, killed_runs: Path, tmp_path: Path, small: Dataset
) -> None:
    shutil.copytree(killed_runs / "2", tmp_path / "runs")
    history = tmp_path / "runs" / uninterrupted.path.name / "history.jsonl"
    history.write_bytes(history.read_bytes().splitlines(keepends=True)[0])
    (resumed,) = train_here([small_recipe()], small, tmp_path / "runs")
    assert facts(resumed) == facts(uninterrupted)


@pytest.mark.parametrize("lines", [[], {"history": [{"epoch": 1}]}, {"history": 5}, {"timing": [{"epoch": "x"}]}])
def test_a_checkpoint_with_other_lines_is_refused(killed_after_one_epoch: Path, lines: Any) -> None:
    (path,) = killed_after_one_epoch.glob("*/checkpoint.npz")
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "progress": json.dumps(lines)})
    with pytest.raises(UsageError, match=r"checkpoint\.npz: not readable") as error:
        checkpoint.history(Run(path.parent))
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_format_version_is_refused(killed_after_one_epoch: Path) -> None:
    (path,) = killed_after_one_epoch.glob("*/checkpoint.npz")
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "format_version": 2})
    with pytest.raises(UsageError, match=r"checkpoint\.npz: format_version is 2, this program reads 1"):
        checkpoint.history(Run(path.parent))


def test_a_damaged_checkpoint_is_refused_and_kept(killed_after_one_epoch: Path, small: Dataset) -> None:
    (path,) = killed_after_one_epoch.glob("*/checkpoint.npz")
    damaged = path.read_bytes()[:-1000]
    path.write_bytes(damaged)
    with pytest.raises(UsageError, match=r"checkpoint\.npz: not readable"):
        train_here([small_recipe()], small, killed_after_one_epoch)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("name", ["0000", "progress"])
def test_a_checkpoint_that_would_fill_the_memory_is_refused(
    name: str, killed_after_one_epoch: Path, small: Dataset
) -> None:
    (path,) = killed_after_one_epoch.glob("*/checkpoint.npz")
    content = np.zeros(1 << 28, np.uint8) if name == "0000" else "x" * (1 << 26)  # 256 MB each, unpacked
    with np.load(path) as arrays:
        np.savez_compressed(path, **{**arrays, name: content})
    assert path.stat().st_size < 16 << 20
    message = r"checkpoint\.npz: not readable: .* bytes unpacked are too many\. Delete it"
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=message):
            train_here([small_recipe()], small, killed_after_one_epoch)
        assert tracemalloc.get_traced_memory()[1] < 128 << 20
    finally:
        tracemalloc.stop()


def test_a_checkpoint_of_another_shape_is_refused(killed_after_one_epoch: Path, small: Dataset) -> None:
    (path,) = killed_after_one_epoch.glob("*/checkpoint.npz")
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "0000": arrays["0000"][..., :-1]})
    with pytest.raises(UsageError, match=r"checkpoint\.npz: not readable: .*shape"):
        train_here([small_recipe()], small, killed_after_one_epoch)


def test_a_run_that_was_started_in_another_environment_is_not_resumed(
    killed_after_one_epoch: Path, small: Dataset
) -> None:
    (path,) = killed_after_one_epoch.glob("*/environment.json")
    environment = json.loads(path.read_text())
    environment["packages"]["keras"] = "3.0.0"
    path.write_text(json.dumps(environment))
    with pytest.raises(UsageError, match=r"cannot resume: the environment differs: keras was 3\.0\.0, is "):
        train_here([small_recipe()], small, killed_after_one_epoch)


def test_recipe_and_environment_are_on_disk_before_the_first_step(tmp_path: Path, small: Dataset) -> None:
    class KillAtFirstStep(SilentCallback):
        def step(self, *_: Any) -> None:
            raise KilledError

    wanted = small_recipe()
    with pytest.raises(KilledError), locked_run(tmp_path, Identity.of(wanted, small.sha256, "x")) as run:
        loop.train(run, small, KillAtFirstStep())
    assert run.environment["dataset"]["sha256"] == small.sha256
    assert run.environment["threads"] == wanted.threads == 2
    assert run.environment["settings"]["op_determinism"] is True
    assert run.history == []


@pytest.mark.usefixtures("tiny")
def test_training_figures_are_means_over_images_not_over_batches(small: Dataset) -> None:
    wanted = small_recipe("tinynet:without_dropout", batch_size=64)  # 300 = 4 * 64 + 44
    model = loop.build_and_compile(wanted, small)
    train_epoch = backends.epoch_trainer(model, wanted, small)
    epoch, _ = loop._train_and_score(1, wanted, model, model, train_epoch, small, SilentCallback())

    model = loop.build_and_compile(wanted, small)
    losses: list[float] = []
    correct_mask: list[bool] = []
    means: list[float] = []
    for images, targets in batches(wanted, small, 1):
        before = networks.predictor(model)(images)
        losses += (-np.log(before[targets == 1])).tolist()
        correct_mask += (before.argmax(1) == targets.argmax(1)).tolist()
        means.append(float(np.mean(losses[-len(images) :])))
        model.train_on_batch(images, targets)
    assert len(losses) == 300
    assert epoch.loss == pytest.approx(np.mean(losses), abs=1e-5)
    assert epoch.accuracy == pytest.approx(np.mean(correct_mask), abs=1e-6)
    assert epoch.loss != pytest.approx(np.mean(means), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 300, 1000])
def test_an_epoch_shows_every_image_once_whatever_the_batch_size(small: Dataset, batch_size: int) -> None:
    wanted = small_recipe(augment="none", batch_size=batch_size)
    batch_list = [images for images, _ in batches(wanted, small, 1)]
    shown = np.concatenate(batch_list).reshape(300, -1)
    assert sorted(map(bytes, shown)) == sorted(map(bytes, small.x_train.reshape(300, -1)))
    assert [len(images) for images in batch_list[:-1]] == [batch_size] * (len(batch_list) - 1)


def test_batch_size_changes_no_augmented_image(small: Dataset) -> None:
    epochs = [
        np.concatenate([images for images, _ in batches(small_recipe(batch_size=size), small, 2)])
        for size in (10, 64, 300)
    ]
    assert (epochs[0] == epochs[1]).all()
    assert (epochs[0] == epochs[2]).all()


def test_labels_stay_with_their_images(small: Dataset) -> None:
    label_of = {image.tobytes(): label for image, label in zip(small.x_train, small.y_train, strict=True)}
    for images, targets in batches(small_recipe(augment="none"), small, 1):
        assert [label_of[image.tobytes()] for image in images] == targets.argmax(axis=1).tolist()


@pytest.mark.usefixtures("tiny")
def test_a_loss_that_is_nan_ends_the_run_and_not_the_others(tmp_path: Path, small: Dataset) -> None:
    wanted = [small_recipe("tinynet:exploding"), small_recipe("tinynet:build")]
    exploded, sound = train_here(wanted, small, tmp_path / "runs")
    assert exploded.status == "diverged"
    assert "epoch 1" in exploded.divergence
    assert [line.loss for line in exploded.history] == [None]
    assert sound.status == "finished"


@pytest.mark.usefixtures("tiny")
def test_weights_that_become_nan_in_the_last_step_of_an_epoch_end_the_run(
    tmp_path: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct_trainer = backends.epoch_trainer

    def trainer_that_ends_with_nan(model: Any, *rest: Any) -> backends.EpochTrainer:
        def train_epoch(epoch: int, callback: Callback) -> tuple[float, float]:
            loss, accuracy = correct_trainer(model, *rest)(epoch, callback)
            if epoch == 2:
                model.set_weights([weights * np.nan for weights in model.get_weights()])
            return loss, accuracy

        return train_epoch

    monkeypatch.setattr(backends, "epoch_trainer", trainer_that_ends_with_nan)
    (run,) = train_here([small_recipe("tinynet:build", epochs=3)], small, tmp_path / "runs")
    assert run.status == "diverged"
    assert run.divergence == "the model's outputs contain NaN or infinity after epoch 2"
    assert [line.loss is None for line in run.history] == [False, True]


def test_metrics_agree_with_the_other_files(pair: list[Run], small: Dataset) -> None:
    for run in pair:
        probabilities, labels = run.predictions()
        assert (labels == small.y_test).all()
        assert (probabilities.argmax(axis=1) == labels).mean() == run.metrics.accuracy
        assert run.metrics.n_test == len(labels) == 100
        assert run.metrics.loss == pytest.approx(classification.cross_entropy(probabilities, labels))
        assert run.metrics.weights_sha256 == run.history[-1].weights_sha256
        assert run.metrics.accuracy == run.history[-1].test_accuracy
        assert (run.metrics.dataset, run.metrics.official) == ("synthetic", None)


def test_clean_training_accuracy_is_that_of_the_final_weights_on_unchanged_images(
    pair: list[Run], small: Dataset
) -> None:
    import keras

    for run in pair:
        model = keras.models.load_model(run.path / "model.keras")
        predicted = networks.predictor(model)(small.x_train).argmax(axis=1)
        assert (predicted == small.y_train).mean() == run.metrics.train_accuracy_clean


LOAD_AND_PREDICT = """
import sys, keras, numpy
assert "cifar" not in sys.modules
model = keras.models.load_model(sys.argv[1])
print(model.predict_on_batch(numpy.load(sys.argv[2])).argmax(1).tolist())
"""


def test_the_saved_model_loads_without_this_package(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", small.x_test)
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD_AND_PREDICT, pair[0].path / "model.keras", tmp_path / "images.npy"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == pair[0].predictions()[0].argmax(axis=1).tolist()


TRAIN = (
    "train", "--profile", "smoke", "--network", "second", "--augment", "shift-flip", "--data", "synthetic",
    "--epochs", "3", "--quiet",
)  # fmt: skip
RESUME = """
import sys
from cifar.system import environment
environment.configure(2)
import keras, random, numpy
keras.utils.set_random_seed(4711)
numpy.random.random(100), random.random(), keras.random.normal((3,))
from cifar.cli import main
main()
"""


def kill_after_second_line(home: Path, runs: str) -> None:
    """SIGKILL `cifar train` once its history has two lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cifar", *TRAIN, "--runs", runs],
        cwd=home, env=isolated(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    history = home / runs / "second-shift-flip-s0" / "history.jsonl"
    deadline = time.monotonic() + 300
    while not (history.exists() and len(history.read_text().splitlines()) >= 2):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (history.parent / "metrics.json").exists()


@pytest.mark.slow
def test_a_killed_process_is_resumed_by_the_same_command_to_the_bit(tmp_path: Path) -> None:
    kill_after_second_line(tmp_path, "killed")
    resumed = subprocess.run(
        [sys.executable, "-c", RESUME, *TRAIN, "--json", "--runs", "killed"],
        cwd=tmp_path, env=isolated(tmp_path), capture_output=True, text=True,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    (uninterrupted,) = train_here([small_recipe()], draw_synthetic(), tmp_path / "uninterrupted")
    assert facts(Run(tmp_path / json.loads(resumed.stdout)["runs"][0]["path"])) == facts(uninterrupted)


@pytest.mark.alone
def test_ctrl_c_ends_within_two_seconds_and_says_how_to_continue(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cifar", *TRAIN[:-1], "--runs", "runs"],
        cwd=tmp_path, env=isolated(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    history = tmp_path / "runs" / "second-shift-flip-s0" / "history.jsonl"
    while not history.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)  # ten times what is promised
    assert process.returncode == 130, err
    assert "the same command continues" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_two_processes_on_one_folder_train_every_run_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cifar", *TRAIN, "--json", "--runs", "runs"]
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, env=isolated(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=1800) for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 5], [0, 0]), [err.decode() for _, err in outputs]
    run = Run(tmp_path / "runs" / "second-shift-flip-s0")
    assert run.finished
    assert len(run.history) == 3
