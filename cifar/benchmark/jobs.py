"""The jobs of the child processes: everything that is timed, one runtime and one number of threads per process.

Each function runs in a process of its own (cifar.system.child_process). Nothing heavy is imported at the top: it
would be part of every format's cold start and memory.
"""

import importlib
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifar.benchmark.timing import Samples, sample
from cifar.errors import first_line
from cifar.inference.external import ExternalModel, load_external
from cifar.inference.preprocessing import Preprocessing
from cifar.inference.runtimes import load_session
from cifar.inference.runtimes.program import ProgramSession
from cifar.metrics.classification import Probabilities, predict
from cifar.system import environment, hardware
from cifar.system.child_process import exchange
from cifar.system.environment import BackendName

if TYPE_CHECKING:
    from cifar.benchmark.training_job import TrainingJob

KERAS_BACKENDS: dict[str, BackendName] = {"keras": "tensorflow", "keras-jax": "jax"}
PEAK_SIZE, PEAK_REPEATS = 4096, 4
ANY_DROP = 100.0  # points of accuracy that an export may lose: the table shows what it lost


@dataclass(frozen=True)
class FileJob:
    """A model file to measure.

    Attributes:
        id: of the case.
        format: a key of FORMATS, `keras` or `keras-jax`.
        path: the file; for Keras a run folder or a SavedModel.
        network: by name, for Keras.
        batch: images per call.
        threads: of the runtime.
        device: `cpu` or `gpu`.
        images: a .npy file of uint8 (N, 32, 32, 3), whose first images are the batch.
        preprocessing: of an external file; None for ours.
        predicts: whether the file predicts all its images.
        runtime: a key of RUNTIMES; None for the format's own.
    """

    id: str
    format: str
    path: Path
    network: str | None
    batch: int
    threads: int
    device: str
    images: Path
    preprocessing: Preprocessing | None
    predicts: bool = True
    runtime: str | None = None


class KerasSession:
    """A Keras model through `predict_on_batch`: a run's own, or one filled with the weights of a SavedModel."""

    delegated_share: float | None = None

    def __init__(self, job: FileJob) -> None:
        backend = KERAS_BACKENDS[job.format]
        environment.configure(job.threads, job.device, backend)
        if backend != "tensorflow":
            import tensorflow as tf

            tf.config.set_visible_devices([], "GPU")  # TensorFlow only reads a file here
        self._model = _keras_model(job)
        if backend == "jax":
            self._model.compile(jit_compile=True)
        self.threads = environment.threads_of(backend)
        self.provider = environment.device_of(self._model.weights[0].value)
        if backend != "tensorflow":
            self.provider = f"{environment.BACKENDS[backend].name} {self.provider}"

    def __call__(self, images: NDArray[np.uint8]) -> Probabilities:
        """Return probabilities, float32 (N, 10), in host memory."""
        return np.asarray(self._model.predict_on_batch(images))


def _keras_model(job: FileJob) -> Any:
    import tensorflow as tf

    from cifar import networks
    from cifar.runs.loading import load_keras
    from cifar.runs.run import Run

    if (job.path / "recipe.json").exists():
        return load_keras(Run(job.path))
    assert job.network is not None
    model = networks.build_with_fresh_names(job.network)
    weights = tf.saved_model.load(str(job.path)).weights
    model.set_weights([weight.numpy() for weight in weights])
    return model


def load(job: FileJob) -> Any:
    """Load a job's file in its runtime: a KerasSession, RuntimeSession or ExternalModel, all Predictors."""
    if job.preprocessing is not None:
        return load_external(job.format, job.path, job.threads, job.preprocessing, job.runtime)
    if job.format in KERAS_BACKENDS:
        return KerasSession(job)
    return load_session(job.format, job.path, job.threads, job.device, job.runtime)


def inference(
    jobs: Sequence[FileJob], predictions: Path | None, seed: int, budget: float, processes: int
) -> list[dict[str, Any]]:
    """Load files of one runtime, wait, and time them, in an order shuffled by the seed; then let each predict.

    Args:
        jobs: all with the same runtime, number of threads and device.
        predictions: folder for the predictions of each file; None if another process makes them.
        seed: of the order.
        budget: seconds of sampling per job, in all processes together.
        processes: how many such processes share the samples.

    Returns:
        For each job its `id` with samples, provider, threads and the file of its `predictions`, or with the `error`
        that kept it from running.
    """
    loaded: dict[Path, Any] = {}
    errors: dict[Path, str] = {}
    for job in jobs:
        if job.path not in loaded and job.path not in errors:
            try:
                loaded[job.path] = load(job)
            except Exception as error:  # a runtime raises what it likes about a damaged file
                errors[job.path] = first_line(error)
    exchange({})
    results = []
    for order, job in enumerate(random.Random(seed).sample(jobs, len(jobs))):
        result: dict[str, Any] = {"id": job.id, "path": str(job.path), "format": job.format, "order": order}
        if job.path in loaded:
            try:
                result |= _time(loaded[job.path], job, budget, processes)
            except Exception as error:
                errors[job.path] = first_line(error)
        if job.path in errors:
            result["error"] = f"{job.path}: {errors[job.path]}"
        results.append(result)
    if predictions is not None:
        _predict_all(jobs, loaded, results, predictions)
    return results


def _time(session: Any, job: FileJob, budget: float, processes: int) -> dict[str, Any]:
    """Time the calls of a loaded file."""
    images = np.load(job.images, mmap_mode="r")
    batch = np.resize(images, (job.batch, 32, 32, 3))
    runtime_session = session.session if isinstance(session, ExternalModel) else session
    program = runtime_session if isinstance(runtime_session, ProgramSession) else None
    samples: Samples = sample(lambda: session(batch), budget, processes, program)
    return {
        "seconds": samples.seconds,
        "warm_up": samples.warm_up,
        "steady": samples.steady,
        "cores_busy": samples.cores_busy,
        "threads_busy": samples.threads_busy,
        "provider_actual": session.provider,
        "details": dict(getattr(session, "details", {})),
        "delegated_share": getattr(session, "delegated_share", None),  # a base that --revisions measures may lack it
        "threads_actual": session.threads,
    }


def _predict_all(
    jobs: Sequence[FileJob], loaded: dict[Path, Any], results: Sequence[dict[str, Any]], folder: Path
) -> None:
    """Save what each loaded file predicts for all its images, and tell each result where; a file on each core."""
    images = {job.path: job.images for job in jobs if job.predicts and job.path in loaded}
    saved = {path: folder / f"{number}.npy" for number, path in enumerate(images)}

    def save(path: Path) -> None:
        np.save(saved[path], predict(loaded[path], np.load(images[path], mmap_mode="r")))

    with ThreadPoolExecutor(os.cpu_count()) as cores:
        list(cores.map(save, saved))
    for result in results:
        file = saved.get(Path(result["path"]))
        if file:
            result["predictions"] = str(file)


def save_predictions(job: FileJob, to: Path) -> None:
    """Save what a job's file predicts for all its images."""
    np.save(to, predict(load(job), np.load(job.images)))


def cold_start(job: FileJob, module: str | None, spawned: float, batches: Sequence[int]) -> dict[str, Any]:
    """Load one file and predict once: what a program waits for before its first image is classified.

    Args:
        job: the file.
        module: whose import starts the runtime, and is not counted as loading; None for a program of its own.
        spawned: time.time() just before this process was started.
        batches: batch sizes; the peak memory is read after each, in ascending order; not that of a program.
    """
    if module in environment.BACKENDS:
        environment.configure(job.threads, job.device, module)
    if module is not None:
        importlib.import_module(module)
    imported = time.time()
    session = load(job)
    loaded = time.time()
    session(np.zeros((1, 32, 32, 3), np.uint8))
    predicted = time.time()
    memory = {}
    for batch in sorted({1, *batches}):
        session(np.zeros((batch, 32, 32, 3), np.uint8))
        if module is not None:  # of a program's memory its processes share a part
            memory[batch] = hardware.peak_memory()
    return {
        "start_seconds": predicted - spawned,
        "load_seconds": loaded - imported,
        "memory_bytes": memory,
        "provider_actual": session.provider,
        "threads_actual": session.threads,
    }


def matrix_peak(threads: int, precisions: Sequence[str]) -> dict[str, Any]:
    """Time a few 4096^3 matrix products in each precision with TensorFlow, the fastest library for them.

    Returns:
        `library`, and `flops`: by precision the FLOP/s of the fastest.
    """
    environment.configure(threads)
    import tensorflow as tf

    shape = (PEAK_SIZE, PEAK_SIZE)
    flops = {}
    for precision in precisions:
        left = tf.cast(tf.random.stateless_uniform(shape, (0, 0)), precision)
        right = tf.cast(tf.random.stateless_uniform(shape, (0, 1)), precision)
        seconds = []
        for _ in range(PEAK_REPEATS):
            before = time.perf_counter()
            tf.matmul(left, right).numpy()
            seconds.append(time.perf_counter() - before)
        flops[precision] = 2 * PEAK_SIZE**3 / min(seconds)
    return {"flops": flops, "library": f"tensorflow {tf.__version__} matmul"}


def augmentation(policy: str, budget: float, processes: int) -> dict[str, Any]:
    """Time a policy on a batch of 128 random images, out of as many as a quick run has."""
    from cifar.data import augmentation
    from cifar.recipes import POLICIES

    # After a large array was freed, as in training, malloc no longer gives memory back after every batch.
    images = np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3), np.uint8)[::78][:128].copy()
    parameters = augmentation.draw(POLICIES[policy], 0, 1, len(images))
    samples = sample(lambda: augmentation.apply(images, parameters), budget, processes)
    return {"batch": len(images), "seconds": samples.seconds, "cores_busy": samples.cores_busy}


def try_batch_sizes(job: "TrainingJob", batch_sizes: Sequence[int]) -> dict[int, float]:
    """Return the images/s of a training method at each batch size."""
    from cifar.benchmark import training_job

    return training_job.try_batch_sizes(job, batch_sizes)


def training(job: "TrainingJob", batch_size: int) -> None:
    """Time training steps at a batch size, in rounds: see cifar.benchmark.training_job."""
    from cifar.benchmark import training_job

    training_job.measure(job, batch_size, exchange)


def training_flop(names: Sequence[str]) -> dict[str, int | None]:
    """Return the floating-point operations of a training step for one image, by network; None if not countable."""
    from cifar import networks

    environment.configure(threads=1)
    return {name: networks.training_flop(networks.build_with_fresh_names(name)) for name in names}


def first_step(folder: Path, network: str, threads: int, spawned: float) -> dict[str, float]:
    """Do what `cifar train` does until its first step is done; return the seconds since this process was started.

    Args:
        folder: for the run.
        network: by name.
        threads: of TensorFlow.
        spawned: time.time() just before this process was started.
    """
    from cifar.data import dataset
    from cifar.recipes import recipe
    from cifar.runs.run import locked_run
    from cifar.runs.schemas import Identity
    from cifar.training import loop
    from cifar.training.callback import SilentCallback

    class FirstStepDoneError(Exception):
        """Ends the training."""

    class StopAfterFirstStep(SilentCallback):
        def step(self, *_: Any) -> None:
            raise FirstStepDoneError

    before = time.time()
    environment.configure(threads)
    import keras  # noqa: F401 - what takes its time

    imported = time.time()
    wanted = recipe(network, "shift-flip", profile="reference", dataset="synthetic", threads=threads)
    data = dataset.draw_synthetic()
    identity = Identity.of(wanted, data.sha256, loop.architecture_hash(wanted))
    try:
        with locked_run(folder, identity) as run:
            loop.train(run, data, StopAfterFirstStep())
    except FirstStepDoneError:
        return {"seconds": time.time() - spawned, "import_seconds": imported - before}
    raise AssertionError("trained without a step")


def train_stand_in(folder: Path, network: str, policy: str, epochs: int, images: int) -> str:
    """Train a network on drawn pictures, for want of a better model; return the run's folder."""
    from contextlib import nullcontext

    from cifar.data import dataset
    from cifar.recipes import recipe
    from cifar.training import grid
    from cifar.training.callback import SilentCallback

    environment.configure(threads=2)
    full = recipe(network, policy, epochs=epochs, dataset="synthetic")
    short = full.model_copy(update={"train_images": images})
    data = dataset.draw_synthetic()
    (result,) = grid.train_all([short], data, folder, lambda *_: nullcontext(SilentCallback()), print)
    assert result.run is not None
    return str(result.run.path)


def export(run: Path, formats: Sequence[str], folder: Path) -> None:
    """Export a run's missing formats, whatever accuracy they lose."""
    from cifar.export import export_runs
    from cifar.runs.loading import load_data
    from cifar.runs.run import Run

    opened = Run(run)
    threads = opened.recipe.threads
    environment.configure(threads)
    data = load_data(opened, None, print)
    export_runs([opened], data, formats, folder, threads, ANY_DROP)


def accuracy_of_views(path: Path, views_name: str) -> float:
    """Return the accuracy of a run's Keras model with test-time augmentation, on its whole test set."""
    from cifar import networks
    from cifar.metrics import classification, views
    from cifar.runs.loading import load_data, load_keras
    from cifar.runs.run import Run

    run = Run(path)
    data = load_data(run, None, lambda _note: None)
    environment.configure(run.recipe.threads)
    images = views.stack_views(data.x_test, views_name)
    of_views = predict(networks.predictor(load_keras(run)), images)
    return classification.score(views.average_views(of_views, views_name), data.y_test).accuracy
