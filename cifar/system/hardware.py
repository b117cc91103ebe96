"""This machine and this process: CPU, GPU, memory, threads, and what native libraries write to stderr."""

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

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
GPU_FIELDS = ("name", "driver_version", "memory.total")


CPU_SIGNATURE = ("cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant", "CPU revision")
"""The fields of /proc/cpuinfo, on x86 and on Arm, that tell processors of one name apart."""


@cache
def cpu() -> dict[str, Any]:
    """Return what kernels are chosen by: `model` name, `signature`, `instruction_sets` and `caches`.

    The signature (family, model, stepping) and the caches of a core are None where the system does not tell them.
    """
    fields = _cpuinfo()
    if fields is None:  # not Linux
        return {
            "model": _model_off_linux(),
            "signature": None,
            "instruction_sets": _instruction_sets_of_numpy(),
            "caches": None,
        }
    flags = fields.get("flags", fields.get("Features", "")).split()
    signature = [f"{name} {fields[name]}" for name in CPU_SIGNATURE if name in fields]
    return {
        "model": fields.get("model name", platform.machine()),
        "signature": ", ".join(signature) or None,
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "caches": _caches(),
    }


@cache
def has_vnni() -> bool:
    """Whether the processor multiplies and adds bytes in one instruction (VNNI); False where the system does not say.

    Apart from `cpu`: what a run's bits depend on does not need to know it.
    """
    fields = _cpuinfo() or {}
    return bool({"avx512_vnni", "avx_vnni"}.intersection(fields.get("flags", "").split()))


def _cpuinfo() -> dict[str, str] | None:
    """Return the fields of a core in /proc/cpuinfo; None where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields


def _model_off_linux() -> str:
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    return platform.processor() or "unknown"


def _instruction_sets_of_numpy() -> list[str]:
    """Return the instruction sets that numpy finds on this processor, under numpy's names."""
    import numpy as np

    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return [name.lower() for name in (*extensions["baseline"], *extensions.get("found", ()))]


def _caches() -> dict[str, str] | None:
    """Return the sizes of the caches of the first core, as `{"L1 Data": "48K"}`; None where they are not told."""
    caches = {}
    with contextlib.suppress(OSError):
        for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
            level, kind, size = [(folder / name).read_text().strip() for name in ("level", "type", "size")]
            caches[f"L{level} {kind}"] = size
    return caches or None


@cache
def gpu() -> dict[str, str] | None:
    """Return `model`, `driver` and `memory` of the first NVIDIA GPU, as nvidia-smi tells them; None without one."""
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = output.splitlines()
    if not lines:
        return None
    values = map(str.strip, lines[0].split(","))
    return dict(zip(("model", "driver", "memory"), values, strict=False))


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes.

    Not `ru_maxrss` on Linux: it begins with what the parent process used when it started this one.
    """
    import psutil

    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024  # macOS counts bytes


@contextlib.contextmanager
def count_threads() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many threads this process has more than at the start of the block."""
    import psutil

    before = psutil.Process().num_threads()
    yield lambda: psutil.Process().num_threads() - before


@contextlib.contextmanager
def quiet(show_failure: bool = True) -> Iterator[None]:
    """Hold back what native libraries write to stderr past every log level.

    Args:
        show_failure: whether to show it if the block fails.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as captured:
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            if show_failure:
                captured.seek(0)
                os.write(stderr, captured.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
