"""Every write fails once, at every stage of it; files that do not fit; places that cannot be written."""

import contextlib
import errno
import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from conftest import TINY, isolated, train_here

from cifar import export
from cifar.analysis import summary
from cifar.data import dataset, download
from cifar.data.dataset import Dataset
from cifar.errors import CifarError, StorageError
from cifar.inference import isolated_prediction
from cifar.metrics.classification import Probabilities
from cifar.recipes import recipe
from cifar.report import figure_files
from cifar.runs.run import Run
from cifar.system import files
from faults import whole
from faults.conftest import Count, Tally

NAME = "tinynet.build-shift-flip-s0"
FORMATS = ("saved-model", "onnx")  # a folder and a file
RECIPE = recipe("tinynet:build", "shift-flip", epochs=2, dataset="synthetic")
SEED = 20

# Where a write can fail, and what the system says then.


@contextlib.contextmanager
def refuses(owner: object, call: str, code: int) -> Iterator[None]:
    """Let a call of the system fail."""
    with patch.object(owner, call, side_effect=OSError(code, os.strerror(code))):
        yield


STAGES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "making its scratch folder": lambda: refuses(tempfile, "mkdtemp", errno.EROFS),
    "half of its content": nullcontext,
    "flushing it": lambda: refuses(os, "fsync", errno.EIO),
    "renaming it": lambda: refuses(Path, "replace", errno.EACCES),
}


@dataclass
class FailingOnce:
    """Stands for files.aside: calls the real one, whose n-th call meets a failure of the system.

    Attributes:
        number: of the call, from 1.
        stage: a key of STAGES.
        targets: of all calls so far.
    """

    number: int
    stage: str
    targets: list[Path] = field(default_factory=list)
    before: str | None = None
    real = staticmethod(files.atomic_replace)

    @contextlib.contextmanager
    def __call__(self, target: Path) -> Iterator[Path]:
        self.targets.append(target)
        if len(self.targets) != self.number:
            with self.real(target) as scratch:
                yield scratch
            return
        self.before = digest(target)
        with STAGES[self.stage](), self.real(target) as scratch:
            yield scratch
            if self.stage == "half of its content":
                halve(scratch)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def left_its_target_alone(self) -> bool:
        return digest(self.targets[-1]) == self.before


def digest(path: Path) -> str | None:
    return files.sha256(path) if path.exists() else None


def halve(path: Path) -> None:
    """What a full disk leaves of a file, or of a folder's files."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)


# What writes.


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset.draw_synthetic(200, 100)


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's module `tinynet` can be imported."""
    home = tmp_path_factory.mktemp("tiny")
    (home / "tinynet.py").write_text(TINY)
    with patch.object(sys, "path", [str(home), *sys.path]):
        sys.modules.pop("tinynet", None)
        yield


@pytest.fixture
def ready_predictions(untouched: "Untouched") -> Iterator[None]:
    """Exports predict what they predicted before any write failed: running them takes seconds."""
    with patch.object(isolated_prediction, "predict_in_subprocess", lambda name, *_: untouched.predictions[name]):
        yield


Work = Callable[[Path, Dataset], object]


def training(runs: Path, data: Dataset) -> None:
    train_here([RECIPE], data, runs)


def exports(runs: Path, data: Dataset) -> None:
    export.export_runs([Run(runs / NAME)], data, FORMATS)


def report(runs: Path, data: Dataset) -> None:
    images = {data.sha256: data.x_test}
    for networks in (True, False):
        figure_files.draw_all(summary.summarise([Run(runs / NAME)]), runs / "figures", "close", images, networks)


@dataclass(frozen=True)
class Untouched:
    """A folder of runs no write of which failed, how many writes each work took, what each format's file predicts."""

    runs: Path
    writes: dict[Work, int]
    predictions: dict[str, list[Probabilities | CifarError]]


@pytest.fixture(scope="module")
def untouched(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Untouched:
    runs = tmp_path_factory.mktemp("untouched")
    writes, predictions = {}, {}
    run = isolated_prediction.predict_in_subprocess

    def keeping(name: str, *arguments: Any) -> list[Probabilities | CifarError]:
        return predictions.setdefault(name, list(run(name, *arguments)))

    for work in (training, exports, report):
        counting = FailingOnce(0, "")
        with (
            patch.object(files, "atomic_replace", counting),
            patch.object(isolated_prediction, "predict_in_subprocess", keeping),
        ):
            work(runs, data)
        writes[work] = len(counting.targets)
    assert writes[training] == 2 + 2 * 3 + 3  # two at the start, three after each epoch, three at the end
    assert writes[exports] == 4 * len(FORMATS)  # a file, its classes, and the manifest before and after them
    assert writes[report] == 3 + 3  # of the network, of the run
    return Untouched(runs, writes, predictions)


def fail_once(work: Work, runs: Path, data: Dataset, number: int, stage: str) -> None:
    """Do the work, whose n-th write fails at a stage: whatever was whole is so still."""
    failing = FailingOnce(number, stage)
    with (
        patch.object(files, "atomic_replace", failing),
        pytest.raises(StorageError, match="cannot be written") as caught,
    ):
        work(runs, data)
    where = f"{failing.targets[-1]}, {stage}"
    assert len(failing.targets) == number, where
    assert caught.value.exit_code == 4
    assert failing.left_its_target_alone(), where
    assert not list(runs.rglob("*.part")), where
    whole.check(runs / NAME)


def chosen(writes: int, some: int, first: Sequence[tuple[int, str]] = ()) -> list[tuple[int, str]]:
    """Which write fails at which stage: `first`, then others of all pairs up to `some`, stages taking turns."""
    pairs = list(itertools.product(range(1, writes + 1), STAGES))
    random.Random(SEED).shuffle(pairs)
    taken = Counter(stage for _, stage in first)
    turns = []
    for number, stage in pairs:
        if (number, stage) not in first:
            turns.append((taken[stage], number, stage))
            taken[stage] += 1
    return [*first, *((number, stage) for _, number, stage in sorted(turns))][:some]


def test_a_write_of_training_that_fails_costs_nothing(
    untouched: Untouched, data: Dataset, tmp_path: Path, count: Count, tally: Tally
) -> None:
    writes = untouched.writes[training]
    for number, stage in chosen(writes, count(6, 4 * writes)):
        runs = tmp_path / f"{number}-{stage}"
        fail_once(training, runs, data, number, stage)
        tally(f"writes of training that failed at {stage}")
        training(runs, data)
        assert whole.trained(runs / NAME) == whole.trained(untouched.runs / NAME)


@pytest.mark.usefixtures("ready_predictions")
def test_a_write_of_an_export_that_fails_takes_no_earlier_file_away(
    untouched: Untouched, data: Dataset, tmp_path: Path, count: Count, tally: Tally
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(untouched.runs, runs)
    writes = untouched.writes[exports]
    expected = whole.outcome(untouched.runs / NAME)
    folder, manifest_after = (2, "renaming it"), (3, "half of its content")  # of a SavedModel; of its line
    for number, stage in chosen(writes, count(len(STAGES), 4 * writes), [folder, manifest_after]):
        fail_once(exports, runs, data, number, stage)
        assert {file.name for file in (runs / NAME / "exports").iterdir()} == expected["exported"], stage
        tally(f"writes of exports that failed at {stage}")
    exports(runs, data)
    assert whole.outcome(runs / NAME) == expected


def test_a_figure_that_cannot_be_written_leaves_the_earlier_one(
    untouched: Untouched, data: Dataset, tmp_path: Path, count: Count, tally: Tally
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(untouched.runs, runs)
    writes = untouched.writes[report]
    drawn = {path.relative_to(runs): files.sha256(path) for path in runs.rglob("*.png")}
    assert len(drawn) == writes
    for number, stage in chosen(writes, count(len(STAGES), 4 * writes)):
        fail_once(report, runs, data, number, stage)
        tally(f"writes of figures that failed at {stage}")
        assert {path.relative_to(runs): files.sha256(path) for path in runs.rglob("*.png")} == drawn
    for folder in (runs, runs / NAME):
        (folder / "figures" / ".curves.png.killed.part").mkdir()
    report(runs, data)
    assert not list(runs.rglob("*.part")), "kills pile up"
    assert {path.relative_to(runs): files.sha256(path) for path in runs.rglob("*.png")} == drawn


def test_predictions_of_an_export_need_no_room_on_a_disk(untouched: Untouched, data: Dataset, tmp_path: Path) -> None:
    """The child that runs an exported file may not write any file, and its predictions arrive all the same."""
    runs = tmp_path / "runs"
    shutil.copytree(untouched.runs, runs)
    limited = partial(subprocess.Popen, preexec_fn=lambda: no_larger_than(2_000))
    with patch.object(subprocess, "Popen", limited):
        export.export_runs([Run(runs / NAME)], data, ["onnx"])
    assert whole.outcome(runs / NAME) == whole.outcome(untouched.runs / NAME)


# Files that do not fit: the system refuses to let any file grow beyond a limit.

NETWORKS = f"""{TINY}

def smallest():
    return keras.Sequential([
        keras.Input((32, 32, 3)), layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")
    ])


def large():
    return keras.Sequential([
        keras.Input((32, 32, 3)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(300),
        layers.Dense(10, activation="softmax")
    ])
"""
LIMITS = [  # bytes, the network, the command that is limited, the first file that does not fit
    (31_000, "build", "train", "model.keras"),
    (10_000, "build", "export", "cifar-export-"),
    (500, "build", "train", "recipe.json"),
    (1_000, "build", "train", "environment.json"),
    (10_000, "build", "train", "checkpoint.npz"),
    (30_000, "smallest", "train", "predictions.npz"),
    (3_200_000, "large", "export", "saved_model"),
    (30_000, "build", "report", "curves.png"),
]


def no_larger_than(limit: int) -> None:
    """Let no file that this process writes grow beyond so many bytes; -1 for no limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def cifar(home: Path, *arguments: str, limit: int = -1) -> subprocess.CompletedProcess[str]:
    """Run `cifar` where no file can be larger than a limit."""
    return subprocess.run(
        [sys.executable, "-m", "cifar", *arguments],
        cwd=home, env=isolated(home), capture_output=True, text=True, timeout=1800,
        preexec_fn=lambda: no_larger_than(limit),
    )  # fmt: skip


def test_a_file_that_does_not_fit_is_one_sentence_and_nothing_is_half_there(
    tmp_path: Path, count: Count, tally: Tally
) -> None:
    for number, (limit, network, command, first) in enumerate(LIMITS[: count(2, len(LIMITS))]):
        home = tmp_path / f"{number}"
        home.mkdir()
        (home / "tinynet.py").write_text(NETWORKS)
        run = f"runs/tinynet.{network}-none-s0"
        words = {
            "train": ("train", "--network", f"tinynet:{network}", "--augment", "none", "--data", "synthetic",
                      "--profile", "smoke", "--epochs", "1", "--quiet"),
            "export": ("export", run),
            "report": ("report", "runs"),
        }  # fmt: skip
        if command != "train":
            assert cifar(home, *words["train"]).returncode == 0
        done = cifar(home, *words[command], limit=limit)
        assert done.returncode == 4, (first, done.stderr)
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        assert len(errors) == 1, done.stderr
        assert errors[0].startswith("error: ")
        assert first in errors[0]
        assert "Traceback" not in done.stderr
        assert not list(home.rglob("*.part")), first
        whole.check(home / run)
        tally("files that did not fit")


# Places that cannot be written, not even by root.


def a_file_in_the_way(place: Path) -> None:
    place.write_text("in the way")


def a_read_only_file_system(place: Path) -> None:
    if not Path("/sys/kernel").is_dir():
        pytest.skip("no file system here is read-only for everybody")
    place.symlink_to("/sys/kernel")


def fetching(runs: Path, _: Dataset) -> None:
    with patch.dict(os.environ, {"XDG_CACHE_HOME": str(runs)}):
        download.fetch(lambda _: None)


PLACES: list[tuple[str, Work]] = [
    ("", training),
    (NAME, training),
    (f"{NAME}/exports", exports),
    (f"{NAME}/figures", report),
    ("figures", report),
    ("cifar-bench", fetching),
]


@pytest.mark.usefixtures("ready_predictions")
@pytest.mark.parametrize("obstacle", [a_file_in_the_way, a_read_only_file_system])
def test_a_place_that_cannot_be_written_is_named_and_nothing_else_is_touched(
    obstacle: Callable[[Path], None], untouched: Untouched, data: Dataset, tmp_path: Path, tally: Tally
) -> None:
    for number, (place, work) in enumerate(PLACES):
        runs = tmp_path / f"{number}"
        if work in (exports, report):
            shutil.copytree(untouched.runs, runs)
            shutil.rmtree(runs / place)
        elif place:
            runs.mkdir()
        before = {path: digest(path) for path in runs.glob(f"{NAME}/*.*")}
        obstacle(runs / place)
        with pytest.raises(StorageError, match="cannot be written") as caught:
            work(runs, data)
        assert str(caught.value).startswith((str(runs / place), str((runs / place).resolve())))
        assert {path: digest(path) for path in before} == before
        assert not list(runs.rglob("*.part"))
        tally("places that could not be written")
