"""A process of its own for everything that is timed: one runtime, one number of threads.

A job names one of JOBS and its arguments, as a line of JSON on stdin; each of its answers is a line of JSON on
stdout. What goes wrong is one sentence on stderr and exit code 1.
"""

import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cifar.benchmark.timing import Samples, sample
from cifar.errors import CifarError, first_line
from cifar.formats import FORMATS, Loaded
from cifar.inference import external
from cifar.inference.preprocessing import Preprocessing
from cifar.metrics.classification import predict
from cifar.system import environment, hardware
from cifar.system.environment import BackendName

IMPORTS = {
    "tensorflow": "tensorflow",
    "jax": "jax",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "onnxruntime": "onnxruntime",
}
IN_KERAS: dict[str, BackendName] = {"keras": "tensorflow", "keras-jax": "jax"}
PEAK_SIZE, PEAK_REPEATS = 4096, 4


def inference(
    cases: list[dict[str, Any]], answers: str | None, seed: int, budget: float, processes: int
) -> list[dict[str, Any]]:
    """Time files of one runtime, in an order shuffled by the seed; then let each answer for all its images.

    Args:
        cases: each with `format`, `path`, `network`, `batch`, `threads`, `device`, and `images`, a .npy file of uint8
            (N, 32, 32, 3), whose first ones are the batch.
        answers: folder for the answers of each file; None if another process gives them.
        seed: of the order.
        budget: seconds of sampling per case, in all processes together.
        processes: how many such processes share the samples.

    Returns:
        The cases with their samples, provider, threads and answers, or with the `error` that kept them from it.
    """
    loaded: dict[str, Loaded | str] = {}
    done = []
    for order, case in enumerate(random.Random(seed).sample(cases, len(cases))):
        file = case["path"]
        if file not in loaded:
            loaded[file] = _loaded_or_error(case)
        predictor = loaded[file]
        if isinstance(predictor, str):
            done.append({**case, "order": order, "error": predictor})
            continue
        batch = np.resize(np.load(case["images"], mmap_mode="r"), (case["batch"], 32, 32, 3))
        taken = sample(lambda predictor=predictor, batch=batch: predictor(batch), budget, processes)
        done.append({**case, "order": order, **_facts(predictor, taken)})
    for number, (file, predictor) in enumerate(loaded.items()):
        if answers and not isinstance(predictor, str):
            mine = [case for case in done if case["path"] == file]
            path = str(Path(answers) / f"{number}.npy")
            np.save(path, predict(predictor, np.load(mine[0]["images"])))
            for case in mine:
                case["answers"] = path
    return done


def _loaded_or_error(case: dict[str, Any]) -> Loaded | str:
    """A case's file in its runtime; or, in words, why not."""
    try:
        return load(case)
    except Exception as error:  # a runtime raises what it likes about a damaged file
        return f"{case['path']}: {first_line(error)}"


def load(case: dict[str, Any]) -> Loaded:
    """A case's file in its runtime."""
    path, threads, device = Path(case["path"]), case["threads"], case["device"]
    if case.get("preprocessing") is not None:
        return load_external(case["format"], path, threads, Preprocessing.from_json(case["preprocessing"]))
    if case["format"] in IN_KERAS:
        return KerasModel(path, case["network"], threads, device, IN_KERAS[case["format"]])
    return FORMATS[case["format"]].module.load(path, threads, device)


class KerasModel:
    """A Keras model through `predict_on_batch`: a run's own, or one filled with the weights of a SavedModel."""

    def __init__(self, path: Path, network: str, threads: int, device: str, backend: BackendName) -> None:
        environment.configure(threads, device, backend)
        import tensorflow as tf

        from cifar import networks
        from cifar.runs.loading import load_keras
        from cifar.runs.run import Run

        if backend != "tensorflow":
            tf.config.set_visible_devices([], "GPU")  # here it reads a file, no more

        if (path / "recipe.json").exists():
            self._model = load_keras(Run(path))
        else:
            self._model = networks.build_with_fresh_names(network)
            self._model.set_weights([weight.numpy() for weight in tf.saved_model.load(str(path)).weights])
        if backend == "jax":
            self._model.compile(jit_compile=True)
        self.threads = environment.threads_of(backend)
        where = environment.device_of(self._model.weights[0].value)
        self.provider = where if backend == "tensorflow" else f"{environment.BACKENDS[backend].name} {where}"

    def __call__(self, images: Any) -> Any:
        return np.asarray(self._model.predict_on_batch(images))


def _facts(predictor: Loaded, taken: Samples) -> dict[str, Any]:
    return {
        "seconds": taken.seconds,
        "warm_up": taken.warm_up,
        "steady": taken.steady,
        "cores_busy": taken.cores_busy,
        "provider_actual": predictor.provider,
        "threads_actual": predictor.threads,
    }


def start(case: dict[str, Any], runtime: str, spawned: float, batches: list[int]) -> dict[str, Any]:
    """Load one file and answer once: what a program waits for before its first picture is classified.

    Args:
        case: as of `inference`.
        runtime: the distribution whose import is not counted as loading.
        spawned: time.time() just before this process was started.
        batches: ascending; the peak memory is read after each.
    """
    if runtime in environment.BACKENDS:
        environment.configure(case["threads"], case["device"], runtime)
    importlib.import_module(IMPORTS[runtime])
    imported = time.time()
    predictor = load(case)
    loaded = time.time()
    memory = {}
    for batch in sorted({1, *batches}):
        predictor(np.zeros((batch, 32, 32, 3), np.uint8))
        if batch == 1:
            answered = time.time()
        memory[batch] = hardware.peak_memory()
    return {
        "start_seconds": answered - spawned,
        "load_seconds": loaded - imported,
        "memory_bytes": memory,
        "provider_actual": predictor.provider,
        "threads_actual": predictor.threads,
    }


def peak(threads: int) -> dict[str, Any]:
    """The fastest of a few 4096^3 float32 matrix products with TensorFlow, the fastest library here for it."""
    environment.configure(threads)
    import tensorflow as tf

    a, b = (tf.random.stateless_uniform((PEAK_SIZE, PEAK_SIZE), (0, seed)) for seed in range(2))
    seconds = []
    for _ in range(PEAK_REPEATS):
        before = time.perf_counter()
        tf.matmul(a, b).numpy()
        seconds.append(time.perf_counter() - before)
    return {"flops": 2 * PEAK_SIZE**3 / min(seconds), "product": f"tensorflow {tf.__version__} matmul, oneDNN"}


def augmentation(policy: str, budget: float, processes: int) -> dict[str, Any]:
    """Time a policy on a batch of 128 random images, out of as many as a quick run has."""
    from cifar.data import augmentation
    from cifar.recipes import POLICIES

    # After a large array was freed, as in training, malloc no longer gives memory back after every batch.
    images = np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3), np.uint8)[::78][:128].copy()
    parameters = augmentation.draw(POLICIES[policy], 0, 1, len(images))
    taken = sample(lambda: augmentation.apply(images, parameters), budget, processes)
    return {"batch": len(images), "seconds": taken.seconds, "cores_busy": taken.cores_busy}


def training(**arguments: Any) -> None:
    """Time training steps, in rounds: see cifar.benchmark.training_methods."""
    from cifar.benchmark import training_methods

    training_methods.measure(**arguments, exchange=exchange)


def first_step(folder: str, network: str, spawned: float) -> dict[str, float]:
    """Do what `cifar train` does until its first step is done; seconds since this process was started.

    Args:
        folder: for the run.
        network: by name.
        spawned: time.time() just before this process was started.
    """
    from cifar.data import dataset
    from cifar.recipes import recipe
    from cifar.runs.run import locked_run
    from cifar.runs.schemas import Identity
    from cifar.training import loop
    from cifar.training.callback import SilentCallback

    class DoneError(Exception):
        """The first step is done."""

    class Stop(SilentCallback):
        def step(self, *_: Any) -> None:
            raise DoneError

    before = time.time()
    environment.configure(threads=2)
    import keras  # noqa: F401 - what takes its time

    imported = time.time()
    wanted, data = recipe(network, "shift-flip", profile="reference", dataset="synthetic"), dataset.draw_synthetic()
    identity = Identity.of(wanted, data.sha256, loop.architecture_hash(wanted))
    try:
        with locked_run(Path(folder), identity) as run:
            loop.train(run, data, Stop())
    except DoneError:
        return {"seconds": time.time() - spawned, "import_seconds": imported - before}
    raise AssertionError("trained without a step")


def stand_in(folder: str, network: str, policy: str, epochs: int, images: int) -> str:
    """Train a network on drawn pictures, for want of a better model; the run's folder."""
    from contextlib import nullcontext

    from cifar.data import dataset
    from cifar.recipes import recipe
    from cifar.training import sweep
    from cifar.training.callback import SilentCallback

    environment.configure(threads=2)
    wanted = recipe(network, policy, epochs=epochs, dataset="synthetic").model_copy(update={"train_images": images})
    data = dataset.draw_synthetic()
    (outcome,) = sweep.train_all([wanted], data, Path(folder), lambda *_: nullcontext(SilentCallback()), print)
    assert outcome.run is not None
    return str(outcome.run.path)


def answer(case: dict[str, Any], to: str) -> None:
    """Save what a case's file answers for all its images."""
    np.save(to, predict(load(case), np.load(case["images"])))


JOBS: dict[str, Callable[..., Any]] = {
    "stand_in": stand_in,
    "answer": answer,
    "inference": inference,
    "start": start,
    "peak": peak,
    "augmentation": augmentation,
    "training": training,
    "first_step": first_step,
}


_stdout = sys.stdout


def exchange(answer: Any) -> None:
    """Give an answer, and wait until more is wanted; this process ends where nothing is."""
    print(json.dumps(answer), file=_stdout, flush=True)
    if not sys.stdin.readline():
        sys.exit()


def main() -> None:
    """Do the job on stdin."""
    global _stdout
    _stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is not an answer
    job = json.loads(sys.stdin.readline())
    try:
        exchange(JOBS[job["do"]](**job["arguments"]))
    except CifarError as error:
        sys.exit(str(error))
    except Exception as error:  # the row fails with one sentence; the others go on
        sys.exit(f"{type(error).__name__}: {first_line(error)}")


if __name__ == "__main__":
    main()
