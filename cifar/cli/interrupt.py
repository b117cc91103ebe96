"""Ctrl-C: end within two seconds, even while native code holds the main thread."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar.cli.output import stderr
from cifar.errors import printable

MAX_WAIT = 1.5  # seconds for Python to handle Ctrl-C itself; then the process is ended
EXIT_CODE = 130


@contextmanager
def resumable(runs: Path, kept: str = "Finished epochs") -> Iterator[None]:
    """Let Ctrl-C end the process within two seconds while the block runs; say what is kept, and how to go on.

    Python handles a signal only between two bytecodes, so a thread waits for it, too, and ends the process.
    """
    folder = printable(str(runs))
    message = f"\nInterrupted. {kept} are kept in {folder}; the same command continues from there."
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    announced = threading.Event()
    interrupted = threading.Event()

    def raise_interrupt(_number: int, _frame: Any) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def end_process() -> None:
        with receiver:
            if receiver.recv(1):
                time.sleep(MAX_WAIT)
                if not announced.is_set():
                    os.write(2, f"{message}\n".encode())
                os._exit(EXIT_CODE)

    def hide_interrupt(unraisable: Any) -> None:
        """A callback of a library swallowed the KeyboardInterrupt: say nothing, the thread ends the process."""
        if unraisable.exc_type is not KeyboardInterrupt:
            previous_hook(unraisable)

    previous_hook, sys.unraisablehook = sys.unraisablehook, hide_interrupt
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    previous_handler = signal.getsignal(signal.SIGINT)
    if previous_handler is signal.default_int_handler:  # and not ignored, as in the background of a shell
        signal.signal(signal.SIGINT, raise_interrupt)
    threading.Thread(target=end_process, daemon=True).start()
    try:
        yield
    except BaseException as error:  # TensorFlow makes other errors of a KeyboardInterrupt in the middle of its work
        if not interrupted.is_set() and not isinstance(error, KeyboardInterrupt):
            raise
        announced.set()
        stderr.print(message, highlight=False, soft_wrap=True)
        os._exit(EXIT_CODE)  # the frameworks take seconds to shut down
    finally:
        sys.unraisablehook = previous_hook
        signal.set_wakeup_fd(previous)
        signal.signal(signal.SIGINT, previous_handler)
        sender.close()
