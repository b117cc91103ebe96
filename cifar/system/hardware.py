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
