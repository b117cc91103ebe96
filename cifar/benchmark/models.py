"""Which models are measured: runs, released models, external files, or a stand-in; and their files."""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cifar.benchmark import jobs
from cifar.benchmark.worker import run_worker
from cifar.data import dataset
from cifar.data.dataset import Dataset
from cifar.errors import CifarError, DataError, NotFoundError, UsageError
from cifar.formats import FORMATS, manifest, origin
from cifar.formats.manifest import ManifestEntry
from cifar.inference import scoring
from cifar.inference.external import format_of
from cifar.inference.preprocessing import Preprocessing
from cifar.networks import NETWORKS
from cifar.runs.run import Run, runs_in
from cifar.system import files

STAND_IN = "stand-in"
STAND_IN_RECIPE: dict[str, Any] = {"network": "second", "policy": "shift-flip", "epochs": 4, "images": 2000}
KERAS, KERAS_JAX = "keras", "keras-jax"  # through predict_on_batch, by backend
FORMAT_NAMES = (KERAS, KERAS_JAX, *FORMATS)
FACTS = ("network", "augment", "seed", "dataset", "official", "data_sha256", "weights_sha256")


@dataclass(frozen=True)
class Unavailable:
    """Why a file cannot be measured.

    Attributes:
        reason: a sentence.
        is_failure: whether something is wrong, so that the row fails; else it is skipped.
    """

    reason: str
    is_failure: bool


@dataclass(frozen=True)
class ExternalModelOptions:
    """What the user says of an external model file.

    Attributes:
        preprocessing: how it scales pixels.
        class_order: the classes in the order of its output; None for the data's.
        data: the name of the data set by which it is scored.
    """

    preprocessing: Preprocessing
    class_order: tuple[str, ...] | None
    data: str


@dataclass
class BenchmarkModel:
    """A trained network and its files.

    Attributes:
        name: in tables and test names.
        origin: where it comes from.
        run: its run folder; None for a released model, and for the stand-in until it is trained.
        entries: those of the manifests, by format.
        paths: the files, by format; `keras` and `keras-jax` for the run folder or the SavedModel whose weights fill
            the Keras model.
        unavailable: why a format has no file.
        external: what the user says of it, if it is an external file.
        only_files: whether only the files in `paths` are measured, and not the Keras model that they came from.
    """

    name: str
    origin: str
    run: Run | None = None
    entries: dict[str, ManifestEntry] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    unavailable: dict[str, Unavailable] = field(default_factory=dict)
    external: ExternalModelOptions | None = None
    only_files: bool = False

    @property
    def format_names(self) -> Sequence[str]:
        """The formats that are measured."""
        if self.external or self.only_files:
            return list(self.paths)
        return FORMAT_NAMES

    @property
    def stand_in(self) -> bool:
        """Whether it is trained for this session alone."""
        return self.name == STAND_IN

    def prepare(self, scratch: Path, formats: Collection[str]) -> None:
        """Find the file of every format, and make those of `formats`; missing ones are noted in `unavailable`."""
        if self.stand_in:
            path = run_worker(jobs.train_stand_in, 2, folder=scratch, **STAND_IN_RECIPE)
            self.run = Run(Path(path))
        if self.run is not None:
            self._prepare_run(self.run, scratch, formats)
        for name in self.entries:
            try:
                manifest.verify_checksum(self.paths[name])
            except UsageError as error:
                self.unavailable[name] = Unavailable(str(error), is_failure=True)
        if (
            self.run is None
            and "saved-model" in self.paths
            and "saved-model" not in self.unavailable
            and not self.only_files
        ):
            self.paths[KERAS] = self.paths[KERAS_JAX] = self.paths["saved-model"]

    @property
    def facts(self) -> dict[str, Any]:
        """What was trained, on which data, with which weights; None for what is not known of an external file."""
        if self.external:
            return _external_facts(self.external)
        known = self.run.metrics if self.run else next(iter(self.entries.values()))
        return {name: getattr(known, name) for name in FACTS}

    @property
    def own_bytes(self) -> int | None:
        """Size of a file without a manifest entry: an external one, or the run's model.keras; else None."""
        if self.external:
            return files.size(next(iter(self.paths.values())))
        if self.run:
            return files.size(self.run.path / "model.keras")
        return None

    @property
    def parameters(self) -> int | None:
        """Of the network; None where they were not counted."""
        if self.run:
            return self.run.metrics.parameters
        return self._recorded("parameters")

    @property
    def multiply_adds(self) -> int | None:
        """Of one image; None where no manifest tells."""
        return self._recorded("multiply_adds")

    def _recorded(self, name: str) -> int | None:
        """A number that all entries of the manifest share."""
        for entry in self.entries.values():
            number: int | None = getattr(entry, name)
            return number
        return None

    def _prepare_run(self, run: Run, scratch: Path, formats: Collection[str]) -> None:
        """Find a run's exported files; export the formats that it lacks to a scratch folder."""
        self.paths[KERAS] = self.paths[KERAS_JAX] = run.path
        self._add_files(run.path / "exports", run.metrics.weights_sha256)
        missing = [name for name in FORMATS if name in formats and name not in self.entries]
        if not missing:
            return
        folder = Path(tempfile.mkdtemp(dir=scratch))
        try:
            run_worker(jobs.export, run.recipe.threads, run=run.path, formats=missing, folder=folder)
        except CifarError as error:
            is_failure = not isinstance(error, DataError)
            unavailable = Unavailable(f"not exported: {error}", is_failure)
            self.unavailable.update(dict.fromkeys(missing, unavailable))
        else:
            self._add_files(folder, run.metrics.weights_sha256)

    def _add_files(self, folder: Path, weights_sha256: str) -> None:
        """Add the files of a folder that hold these weights."""
        for entry in manifest.of_weights(folder, weights_sha256):
            if (folder / entry.file).exists():
                self.entries[entry.format], self.paths[entry.format] = entry, folder / entry.file


def find_models(runs: Sequence[Path], released: Path | None = None) -> list[BenchmarkModel]:
    """Return the models to measure: those of finished runs, else the released ones, else a stand-in.

    Args:
        runs: run folders, or folders of them.
        released: a folder with a manifest; None where there is none.

    Raises:
        UsageError: a folder is not a run and contains none, or a run is not finished.
    """
    if not runs:
        return (released_models(released) if released else []) or [BenchmarkModel(STAND_IN, _stand_in_origin())]
    found: list[Run] = []
    for folder in runs:
        found += runs_in(folder)
    models = []
    for run, name in zip(found, _distinct_names([run.path for run in found]), strict=True):
        run.require_finished()
        models.append(BenchmarkModel(name, f"run {run.path}", run))
    return models


def unknown_programs(model_files: Sequence[Path], runs: Sequence[Path]) -> list[Path]:
    """Return the SavedModels of unknown origin among model files and among the exports of runs.

    Args:
        model_files: ours and external ones.
        runs: run folders, or folders of them.
    """
    programs = [path for path in model_files if format_of(path) == origin.PROGRAM]
    for folder in runs:
        for run in runs_in(folder):
            exports = run.path / "exports"
            for entry in manifest.read_if_present(exports):
                if entry.format == origin.PROGRAM and (exports / entry.file).exists():
                    programs.append(exports / entry.file)
    return [path for path in programs if not origin.is_own(path)]


def external_models(paths: Sequence[Path], options: ExternalModelOptions) -> list[BenchmarkModel]:
    """Return external files as models, each tried on one image.

    Raises:
        UsageError: a file does not fit; if it does not say how it scales pixels, the message tells what each range
            gives.
        cifar.inference.isolated_prediction.InferenceError: its runtime refused it.
    """
    distinct = list(dict.fromkeys(paths))
    models = []
    for path, name in zip(distinct, _distinct_names(distinct), strict=True):
        format_name = format_of(path)
        scoring.require_usable(path, find_data(options.data), options.preprocessing, options.class_order)
        models.append(BenchmarkModel(name, f"file {path}", paths={format_name: path}, external=options))
    return models


def listed_models(files_and_entries: Sequence[tuple[Path, ManifestEntry]]) -> list[BenchmarkModel]:
    """Return files that a manifest lists as models: one for the files of the same run."""
    models: dict[str, BenchmarkModel] = {}
    for path, entry in files_and_entries:
        model = models.setdefault(entry.stem, BenchmarkModel(entry.stem, "listed in its manifest", only_files=True))
        model.entries[entry.format], model.paths[entry.format] = entry, path
    return list(models.values())


def released_models(folder: Path) -> list[BenchmarkModel]:
    """Return the models of a folder's manifest, in the order of our networks; none without a manifest."""
    models: dict[str, BenchmarkModel] = {}
    places = {network: place for place, network in enumerate(NETWORKS)}
    entries = manifest.read_if_present(folder)
    for entry in sorted(entries, key=lambda entry: places.get(entry.network, len(places))):
        model = models.setdefault(entry.stem, BenchmarkModel(entry.stem, "released"))
        model.entries[entry.format], model.paths[entry.format] = entry, folder / entry.file
    return list(models.values())


@cache
def find_data(name: str) -> Dataset | None:
    """Return the data set of that name, where it is on this machine.

    Raises:
        DataError: what the user named, or what is cached, is damaged.
    """
    try:
        return dataset.by_name(name, None, lambda _: None, download=False)
    except NotFoundError:
        return None


def data_of(model: BenchmarkModel) -> Dataset | None:
    """Return the data that a model was trained on, where exactly that is on this machine."""
    data = find_data(model.facts["dataset"])
    if data is None or data.sha256 != model.facts["data_sha256"]:
        return None
    return data


def _external_facts(options: ExternalModelOptions) -> dict[str, Any]:
    facts: dict[str, Any] = {**dict.fromkeys(FACTS), "dataset": options.data}
    data = find_data(options.data)
    if data is not None:
        facts |= {"official": data.official, "data_sha256": data.sha256}
    return facts


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """Of each file or folder its name, or its path where another has that name."""
    names = [path.name for path in paths]
    distinct = []
    for path in paths:
        distinct.append(path.name if names.count(path.name) == 1 else str(path))
    return distinct


def _stand_in_origin() -> str:
    recipe = STAND_IN_RECIPE
    return (
        f"STAND-IN: `{recipe['network']}`, {recipe['policy']}, trained for {recipe['epochs']} epochs on "
        f"{recipe['images']:,} SYNTHETIC pictures"
    )
