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


@cache
def cpu() -> dict[str, Any]:
    """Return the CPU's `model` name and those of its `instruction_sets` that kernels are chosen by."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return {"model": platform.processor() or "unknown", "instruction_sets": []}
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {
        "model": fields.get("model name", platform.machine()),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
    }


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
