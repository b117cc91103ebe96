"""Starting the child processes that measure: their number of threads and their time limit."""

from collections.abc import Callable
from typing import Any

from cifar.system.child_process import run_in_subprocess

TIME_LIMIT = 600.0  # seconds for any message of a worker
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment of a worker: the number of threads of every library that takes it from there."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def run_worker(job: Callable[..., Any], threads: int, /, **arguments: Any) -> Any:
    """Run a job of cifar.benchmark.jobs in a process with so many threads and return its result.

    Raises:
        CifarError: it failed, died or took too long.
    """
    return run_in_subprocess(job, timeout=TIME_LIMIT, variables=thread_variables(threads), **arguments)
