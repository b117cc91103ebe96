"""Which models are measured: runs, released models, or a stand-in; and their files, made where they are missing."""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cifar.benchmark.processes import FailedError, ask, cifar
from cifar.data import dataset
from cifar.data.dataset import Dataset
from cifar.errors import DataError, NotFoundError, UsageError
from cifar.formats import FORMATS, manifest
from cifar.formats.manifest import ManifestEntry
from cifar.inference import scoring
from cifar.inference.preprocessing import Preprocessing
from cifar.inference.external import format_of
from cifar.runs.run import Run, runs_in
from cifar.system import files

RELEASED = Path(__file__).parent.parent / "exports"
STAND_IN = ("second", "shift-flip", 4, 2000)  # network, policy, epochs, training images
KERAS, KERAS_JAX = "keras", "keras-jax"  # through predict_on_batch, by backend
FACTS = ("network", "augment", "seed", "dataset", "official", "data_sha256", "weights_sha256")


@dataclass(frozen=True)
class Unavailable:
    """Why a file cannot be measured.

    Attributes:
        reason: in words.
        bad: whether something is wrong (the row fails), or just not here (it is skipped).
    """

    reason: str
    bad: bool


@dataclass(frozen=True)
class ExternalModelOptions:
    """A file that is not ours: what its user says of it.

    Attributes:
        preprocessing: how it scales pixels.
        order: the classes in the order of its output; None for the data's.
        data: the data set by which it is scored.
    """

    preprocessing: Preprocessing
    order: tuple[str, ...] | None
    data: str


@dataclass
class Model:
    """A trained network and the files it is in.

    Attributes:
        name: in tables and test names.
        origin: in words, where it comes from.
        run: its run folder; None for a released model, and for the stand-in until it is trained.
        lines: what the manifests say, by format.
        paths: the files, by format; `keras` and `keras-jax` for the run folder or the SavedModel that the Keras model
            is filled from.
        unavailable: why a format is not there.
        external: how to read it, if it is a file of anybody's.
    """

    name: str
    origin: str
    run: Run | None = None
    lines: dict[str, ManifestEntry] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    unavailable: dict[str, Unavailable] = field(default_factory=dict)
    external: ExternalModelOptions | None = None

    @property
    def stand_in(self) -> bool:
        """Whether it is trained for this session alone."""
        return self.name == "stand-in"

    def prepare(self, scratch: Path, formats: Collection[str]) -> None:
        """Find the file of every format, and make those of `formats`; what cannot be had is noted in `lacking`."""
        if self.stand_in:
            network, policy, epochs, images = STAND_IN
            path = ask(
                "stand_in", 2, folder=str(scratch), network=network, policy=policy, epochs=epochs, images=images
            )
            self.run = Run(Path(path))
        if self.run is not None:
            self.paths[KERAS] = self.paths[KERAS_JAX] = self.run.path
            weights = self.run.metrics.weights_sha256
            self._take(self.run.path / "exports", weights)
            missing = [name for name in FORMATS if name in formats and name not in self.lines]
            if missing:
                self._export(missing, Path(tempfile.mkdtemp(dir=scratch)), weights)
        for name in self.lines:
            try:
                manifest.verify_checksum(self.paths[name])
            except UsageError as error:
                self.unavailable[name] = Unavailable(str(error), bad=True)
        if self.run is None and "saved-model" in self.paths and "saved-model" not in self.unavailable:
            self.paths[KERAS] = self.paths[KERAS_JAX] = self.paths["saved-model"]

    @property
    def facts(self) -> dict[str, Any]:
        """What was trained, on which data, with which weights."""
        if self.external:
            found = data(self.external.data)
            facts: dict[str, Any] = {"dataset": self.external.data, "official": None, "data_sha256": None}
            facts |= {"official": found.official, "data_sha256": found.sha256} if found else {}
            return {**dict.fromkeys(FACTS), **facts}
        known = self.run.metrics if self.run else next(iter(self.lines.values()))
        return {key: getattr(known, key) for key in FACTS}

    @property
    def own_bytes(self) -> int | None:
        """Size of a file that no manifest lists: the run's model.keras, a external's; a released model has none."""
        if self.external:
            return files.size(next(iter(self.paths.values())))
        return files.size(self.run.path / "model.keras") if self.run else None

    @property
    def parameters(self) -> int | None:
        """Of the network; None where nobody has counted them."""
        if self.run:
            return self.run.metrics.parameters
        return next((line.parameters for line in self.lines.values()), None)

    @property
    def multiply_adds(self) -> int | None:
        """Of one image; None where no manifest knows."""
        return next((line.multiply_adds for line in self.lines.values()), None)

    def _take(self, folder: Path, weights: str) -> None:
        """Take the files of a folder that hold these weights."""
        for line in manifest.of_weights(folder, weights):
            if (folder / line.file).exists():
                self.lines[line.format], self.paths[line.format] = line, folder / line.file

    def _export(self, missing: Sequence[str], to: Path, weights: str) -> None:
        """Export what is missing to a folder, whatever accuracy it loses: the table shows it."""
        assert self.run is not None
        command = ["export", str(self.run.path), "--format", *missing, "--to", str(to), "--max-drop", "100", "--json"]
        try:
            cifar(*command)
        except FailedError as error:
            lack = Unavailable(f"not exported: {error}", bad=error.exit_code != DataError.exit_code)
            self.unavailable.update(dict.fromkeys(missing, lack))
        else:
            self._take(to, weights)


def choose(runs: Sequence[Path]) -> list[Model]:
    """The models to measure: those of finished runs, else the released ones, else a stand-in.

    Raises:
        UsageError: a folder is not a run and holds none, or a run is not finished.
    """
    if runs:
        found = [run for folder in runs for run in runs_in(folder)]
        for run in found:
            run.require_finished()
        names = _names([run.path for run in found])
        return [Model(name, f"run {run.path}", run) for name, run in zip(names, found, strict=True)]
    return _released(RELEASED) or [Model("stand-in", _stand_in_in_words())]


def external_models(paths: Sequence[Path], external: ExternalModelOptions) -> list[Model]:
    """Files of anybody's as models, each tried on one picture.

    Raises:
        UsageError: a file cannot be read so; if it does not say how, what each preprocessing gives is told.
        cifar.inference.prediction.InferenceError: its runtime refused it.
    """
    made = []
    distinct = list(dict.fromkeys(paths))
    for path, name in zip(distinct, _names(distinct), strict=True):
        form = format_of(path)
        scoring.require_usable(path, data(external.data), external.preprocessing, external.order)
        made.append(Model(name, f"file {path}", paths={form: path}, external=external))
    return made


def _names(paths: Sequence[Path]) -> list[str]:
    """Of each file or folder its name, or its path where another has that name."""
    names = [path.name for path in paths]
    return [path.name if names.count(path.name) == 1 else str(path) for path in paths]


def _released(folder: Path) -> list[Model]:
    if not (folder / manifest.NAME).exists():
        return []
    models: dict[str, Model] = {}
    for line in manifest.read(folder):
        name = f"{line.network}-{line.augment}-s{line.seed}"
        model = models.setdefault(name, Model(name, "released"))
        model.lines[line.format], model.paths[line.format] = line, folder / line.file
    return list(models.values())


def _stand_in_in_words() -> str:
    network, policy, epochs, images = STAND_IN
    return f"STAND-IN: `{network}`, {policy}, trained for {epochs} epochs on {images:,} SYNTHETIC pictures"


@cache
def data(name: str) -> Dataset | None:
    """The data set of that name, where it is on this machine.

    Raises:
        DataError: what was named or cached is damaged.
    """
    try:
        return dataset.by_name(name, None, lambda _: None, download=False)
    except NotFoundError:
        return None


def data_of(model: Model) -> Dataset | None:
    """The data that a model was trained on, where exactly that is on this machine."""
    found = data(model.facts["dataset"])
    return found if found is not None and found.sha256 == model.facts["data_sha256"] else None
