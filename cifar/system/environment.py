"""WHERE it ran: settings made before the framework starts, and the facts that stand beside every result."""

import datetime
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast

from cifar.errors import UsageError, one_of
from cifar.system import hardware

BackendName = Literal["tensorflow", "jax"]
FORMAT_VERSION = 1
PACKAGES = ("tensorflow", "keras", "numpy", "onnx", "tf2onnx", "onnxruntime", "ai-edge-litert")
DECISIVE_VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "TF_XLA_FLAGS",
)
"""Environment variables of the user's that change the arithmetic: recorded, and part of the reproducibility key."""
LATER_FACTS = ("cpu signature", "cpu caches")
"""Facts of the key that earlier versions did not record: compared where both sides have them."""
TRAINING_STEP = 3  # increment it when a step's arithmetic changes, and with it the weights


@dataclass(frozen=True)
class Backend:
    """How a Keras backend computes.

    Attributes:
        name: as people write it.
        packages: a run's bits depend on their versions.
        settings: environment variables that are set before it starts, and recorded.
        decisive: those of them for which any other value of the user's is refused.
        on_gpu: the settings that differ on a GPU.
        facts: further facts that are recorded.
    """

    name: str
    packages: tuple[str, ...]
    settings: dict[str, str]
    decisive: tuple[str, ...]
    on_gpu: dict[str, str]
    facts: dict[str, Any]

    def on(self, device: str) -> dict[str, str]:
        """Return the settings on `cpu` or `gpu`."""
        if device == "gpu":
            return self.settings | self.on_gpu
        return dict(self.settings)


BACKENDS: dict[BackendName, Backend] = {
    "tensorflow": Backend(
        name="TensorFlow",
        packages=("tensorflow", "keras", "numpy"),
        settings={
            "KERAS_BACKEND": "tensorflow",
            "TF_ENABLE_ONEDNN_OPTS": "1",  # other kernels give other weights
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "CUDA_VISIBLE_DEVICES": "-1",
        },
        decisive=("TF_ENABLE_ONEDNN_OPTS",),
        on_gpu={"CUDA_VISIBLE_DEVICES": "0"},
        facts={"op_determinism": True, "jit_compile": False, "training_step": TRAINING_STEP},
    ),
    "jax": Backend(
        name="JAX",
        packages=("jax", "jaxlib", "keras", "numpy"),
        settings={
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_gpu_deterministic_ops=true",
            "JAX_DEFAULT_MATMUL_PRECISION": "highest",  # float32 where a GPU would take TensorFloat-32
            "JAX_PLATFORMS": "cpu",
            "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",  # else Python runs beside the requested threads
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # Keras loads TensorFlow too, which would take all of a GPU's memory
        },
        decisive=("XLA_FLAGS", "JAX_DEFAULT_MATMUL_PRECISION"),
        on_gpu={"JAX_PLATFORMS": "cuda"},
        facts={"jit_compile": True, "training_step": TRAINING_STEP},
    ),
}
_devices: dict[str, str] = {}  # by backend, where this process has started it


def requested_backend() -> BackendName:
    """Return the Keras backend that KERAS_BACKEND names for training; TensorFlow if it names none.

    Raises:
        UsageError: it is not one of BACKENDS.
    """
    requested = os.environ.get("KERAS_BACKEND") or "tensorflow"
    return cast(BackendName, one_of("backend for KERAS_BACKEND", requested, BACKENDS))


def configure(threads: int, device: str = "cpu", backend: BackendName = "tensorflow") -> None:
    """Start a backend with `threads` threads and deterministic operations. Call it before any of its operations.

    Args:
        threads: for each operation.
        device: `cpu` or `gpu`.
        backend: one of BACKENDS, whatever KERAS_BACKEND says.

    Raises:
        UsageError: this process already runs another backend or another number of threads, the user's environment
            asks for other arithmetic, the backend was imported without its variables or is not installed, or it sees
            no such device.
    """
    chosen = BACKENDS[backend]
    for name in chosen.decisive:
        required = chosen.settings[name]
        value = os.environ.get(name, required)
        if value != required:
            raise UsageError(f"{name}={value} is set, and runs are made under {name}={required} alone: unset it.")
    if "keras" in sys.modules and sys.modules["keras"].backend.backend() != backend:
        raise UsageError(f"Keras already runs in this process, not on {chosen.name}.")
    if backend == "tensorflow" and "tensorflow" in sys.modules and "TF_ENABLE_ONEDNN_OPTS" not in os.environ:
        raise UsageError(
            "TensorFlow was imported without TF_ENABLE_ONEDNN_OPTS=1, which decides what it computes: set "
            "that variable, or call cifar.system.environment.configure before the first import of Keras."
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ.update(chosen.on(device))
    if device == "gpu" and visible not in (None, "-1"):
        os.environ["CUDA_VISIBLE_DEVICES"] = visible  # the user chose one of several
    if backend == "jax":
        _start_jax(threads, device)
    else:
        _start_tensorflow(threads, device)
    _devices[backend] = device


def _start_tensorflow(threads: int, device: str) -> None:
    with hardware.quiet():
        import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise UsageError(f"TensorFlow already runs in this process, not with {threads} threads.") from error
    tf.config.experimental.enable_op_determinism()
    with hardware.quiet():
        # TensorFlow initialises its devices here, and writes to stderr past every log level.
        devices = tf.config.list_logical_devices(device.upper())
    if not devices:
        raise UsageError(f"TensorFlow sees no {device.upper()} here.")


def _start_jax(threads: int, device: str) -> None:
    os.environ["NPROC"] = str(threads)  # the size of its pool of threads
    with hardware.quiet():
        try:
            import jax
            import keras
        except ImportError as error:
            raise UsageError("JAX is not installed: install this package with its extra `jax`.") from error
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:  # the second without a plugin for the platform
            raise UsageError(f"JAX sees no {device.upper()} here.") from error
        keras.utils.set_random_seed(0)  # imports TensorFlow, if it is installed, which writes to stderr


def device_of(tensor: Any) -> str:
    """Return where a tensor of TensorFlow or an array of JAX is: `CPU` or `GPU`."""
    if hasattr(tensor, "devices"):
        (device,) = tensor.devices()
        return str(device.platform).upper()
    return str(tensor.device).rsplit(":", 2)[-2]


def threads_of(backend: BackendName) -> int:
    """Return how many threads a started backend has; of JAX, which does not tell, how many it was started with."""
    if backend == "jax":
        return int(os.environ["NPROC"])
    import tensorflow as tf

    return int(tf.config.threading.get_intra_op_parallelism_threads())


def facts(threads: int, backend: BackendName = "tensorflow", device: str | None = None) -> dict[str, Any]:
    """Return the machine, the versions and the settings of this process, ready for JSON.

    Args:
        threads: of training.
        backend: of Keras.
        device: `cpu` or `gpu`; None for that with which the backend was started, or `cpu`.
    """
    import psutil

    chosen = BACKENDS[backend]
    device = device or _devices.get(backend, "cpu")
    packages = dict.fromkeys((*PACKAGES, *chosen.packages))
    return {
        "format_version": FORMAT_VERSION,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "cpu": {
            **hardware.cpu(),
            "architecture": platform.machine(),
            "cores": psutil.cpu_count(logical=False),
            "logical_cores": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
        },
        "gpu": hardware.gpu(),
        "device": device,
        "threads": threads,
        "settings": {**chosen.on(device), **chosen.facts},
        "variables": _variables(),
    }


def _variables() -> dict[str, str]:
    """Return the DECISIVE_VARIABLES that are set, and OpenMP's, which change no bits."""
    variables = {}
    for name, value in sorted(os.environ.items()):
        if name in DECISIVE_VARIABLES or name.startswith("OMP_"):
            variables[name] = value
    return variables


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # JAX trains without TensorFlow
        return None


def describe(threads: int, backend: BackendName) -> str:
    """Return a sentence that says what trains on which device."""
    here = facts(threads, backend)
    framework = f"{BACKENDS[backend].name} {here['packages'][backend]}"
    if here["device"] == "cpu":
        return f"Training with {framework} on the CPU ({here['cpu']['model']}), {threads} threads."
    gpu = here["gpu"] or {}
    return f"Training with {framework} on the GPU ({gpu.get('model', 'unknown')})."


def has_bfloat16_units() -> bool:
    """Whether this processor computes in bfloat16."""
    return not {"avx512_bf16", "amx_tile"}.isdisjoint(hardware.cpu()["instruction_sets"])


def reproducibility_key(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the part of `facts` that a run's bits depend on, beside its recipe and its data.

    A fact that the environment does not name is None; a variable that it does not name was not set.
    """
    settings = environment["settings"]
    backend = BACKENDS[settings.get("KERAS_BACKEND", "tensorflow")]
    key: dict[str, Any] = {name: environment["packages"].get(name) for name in backend.packages}
    key["instruction sets"] = environment["cpu"].get("instruction_sets")
    key["architecture"] = environment["cpu"].get("architecture")
    key["system"] = str(environment.get("platform")).partition("-")[0]
    if environment.get("device") == "gpu":
        gpu = environment["gpu"] or {}
        key["gpu"] = gpu.get("model")
    else:
        key["cpu"] = environment["cpu"].get("model")
        key["cpu signature"] = environment["cpu"].get("signature")
        key["cpu caches"] = environment["cpu"].get("caches")
    key.update(settings)
    variables = environment.get("variables") or {}
    for name in DECISIVE_VARIABLES:
        key[name] = variables.get(name, "")
    return key


def key_differences(recorded: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Return a phrase for everything that differs between two reproducibility keys.

    LATER_FACTS that one of them lacks are no difference: no bits that were recorded without them become useless.
    """
    differences = []
    for name, value in current.items():
        recorded_value = recorded.get(name, "not recorded")
        if name in LATER_FACTS and None in (value, recorded.get(name)):
            continue
        if value != recorded_value:
            differences.append(f"{name} was {_phrase(recorded_value)}, is {_phrase(value)}")
    return differences


def _phrase(value: Any) -> Any:
    if value == "":
        return "not set"
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{name} {size}" for name, size in value.items())
    return value


def set_keras_defaults() -> None:
    """Undo what the user's keras.json changes in the arithmetic: epsilon, precision and layout of images."""
    import keras

    keras.config.set_epsilon(1e-7)
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")


@cache
def commit() -> str | None:
    """Return the commit of the checkout that holds this package, with `-dirty` if files differ; None without one."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != Path(__file__).parents[2].resolve():
            return None  # installed inside another project's checkout
        head = git("rev-parse", "HEAD")
        return f"{head}-dirty" if git("status", "--porcelain") else head
    except (OSError, subprocess.SubprocessError):
        return None
