"""WHERE it ran: settings made before the framework starts, and the facts that stand beside every result."""

import contextlib
import datetime
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cifar.errors import UsageError

FORMAT_VERSION = 1
PACKAGES = ("tensorflow", "keras", "numpy", "onnx", "tf2onnx", "onnxruntime", "ai-edge-litert")
INSTRUCTION_SETS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "asimd",
    "sve",
)
SETTINGS = {
    "KERAS_BACKEND": "tensorflow",
    "TF_ENABLE_ONEDNN_OPTS": "1",  # other kernels give other weights: fixed, and recorded
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",  # the TensorFlow backend trains on the CPU
}
TRAINING_STEP = 2  # counts up whenever the step's arithmetic changes: it then gives other weights
DECISIVE = ("KERAS_BACKEND", "TF_ENABLE_ONEDNN_OPTS")  # a user's other choice is refused, never overridden in silence


def configure(threads: int, device: str = "cpu") -> None:
    """Start TensorFlow with `threads` threads and deterministic operations. Call it before any of its operations.

    Args:
        threads: for each operation.
        device: `cpu`, or `gpu` to leave the machine's GPUs in sight; models are trained on the CPU.

    Raises:
        UsageError: this process already runs it with another number of threads, the user's environment asks for
            another backend or other kernels, or TensorFlow sees no GPU here.
    """
    for name in DECISIVE:
        asked = os.environ.get(name, SETTINGS[name])
        if asked != SETTINGS[name]:
            raise UsageError(
                f"{name}={asked} is set, and runs are made under {name}={SETTINGS[name]} alone: unset it."
            )
    hidden = {} if device == "cpu" else {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0")}
    os.environ.update({**SETTINGS, **hidden})
    with quiet():
        import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise UsageError(f"TensorFlow already runs in this process, not with {threads} threads.") from error
    tf.config.experimental.enable_op_determinism()
    with quiet():
        devices = tf.config.list_logical_devices()  # they are looked for once, and say so past every log level
    if device.upper() not in {found.device_type for found in devices}:
        raise UsageError(f"TensorFlow sees no {device.upper()} here.")


def device_of(tensor: Any) -> str:
    """Where a TensorFlow tensor lies: `CPU` or `GPU`."""
    return str(tensor.device).rsplit(":", 2)[-2]


def facts(threads: int) -> dict[str, Any]:
    """The machine, the versions and the settings, ready for JSON."""
    import psutil

    return {
        "format_version": FORMAT_VERSION,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "cpu": {
            "model": cpu()["model"],
            "architecture": platform.machine(),
            "instruction_sets": cpu()["instruction_sets"],
            "cores": psutil.cpu_count(logical=False),
            "logical_cores": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
        },
        "gpu": gpu(),
        "device": "cpu",
        "threads": threads,
        "settings": {**SETTINGS, "op_determinism": True, "jit_compile": False, "training_step": TRAINING_STEP},
    }


def key(environment: dict[str, Any]) -> dict[str, Any]:
    """The part of the facts that decides a run's bits, beside its recipe and its data; None for what is not said."""
    versions = {name: environment["packages"].get(name) for name in ("tensorflow", "keras", "numpy")}
    return {**versions, "instruction sets": environment["cpu"].get("instruction_sets"), **environment["settings"]}


@cache
def cpu() -> dict[str, Any]:
    """The CPU's model name and those of its instruction sets that kernels are chosen by."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return {"model": platform.processor() or "unknown", "instruction_sets": []}
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {
        "model": fields.get("model name", platform.machine()),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
    }


@cache
def gpu() -> dict[str, str] | None:
    """Model, driver and memory of the first NVIDIA GPU, as its driver's tool tells them; None where there is none."""
    names = ("name", "driver_version", "memory.total")
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    first = next(iter(answer.splitlines()), "")
    return dict(zip(("model", "driver", "memory"), map(str.strip, first.split(",")), strict=False)) or None


@cache
def commit() -> str | None:
    """The commit of the checkout this package lies in, with `-dirty` where files differ; None outside of one."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != Path(__file__).parent.parent.resolve():
            return None  # installed inside somebody else's checkout
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes.

    Not `ru_maxrss` on Linux: it begins with what the parent process held when it started this one.
    """
    import psutil

    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def count_threads() -> Iterator[Callable[[], int]]:
    """Yield a function that tells how many threads this process has more than at the start of the block."""
    import psutil

    before = psutil.Process().num_threads()
    yield lambda: psutil.Process().num_threads() - before


@contextlib.contextmanager
def quiet(show_failure: bool = True) -> Iterator[None]:
    """Hold back what native libraries write to stderr past every log level; show it if the block fails, or never."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            if show_failure:
                held.seek(0)
                os.write(saved, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
