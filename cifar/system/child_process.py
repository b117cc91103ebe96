"""A call in a process of its own."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from cifar.errors import CifarError

Answer = TypeVar("Answer")


def run_in_subprocess(function: Callable[..., Answer], *arguments: object) -> Answer:
    """Call a function of a module in a fresh interpreter; its errors are raised here.

    Raises:
        CifarError: the process was killed, as where memory runs out.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            return process.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise CifarError(
                "A process of this command was killed before it had answered; was memory short?"
            ) from error
