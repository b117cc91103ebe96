"""Ctrl-C where Python cannot raise: in a callback of the garbage collector or of a library."""

import subprocess
import sys

import pytest
from conftest import ROOT
from rich.console import Console

from cifar.cli.output import stderr, stdout

PROGRAM = """
import os, signal, time
from pathlib import Path
from cifar.cli.interrupt import resumable

class Callback:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
with resumable(Path("runs")):
    Callback()
    time.sleep(60)
"""


def test_an_interrupt_that_a_callback_swallows_ends_the_process_without_a_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, timeout=50)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "the same command continues from there" in done.stderr


INTERRUPTED = """
from pathlib import Path
from cifar.cli.interrupt import resumable

with resumable(Path("runs[/x]:smile:[bold]\\x1b[2J")):
    raise KeyboardInterrupt
"""


def test_a_folder_whose_name_looks_like_markup_is_named_as_it_is() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, cwd=ROOT, timeout=50)
    assert done.returncode == 130, done.stderr
    assert "are kept in runs[/x]:smile:[bold]?[2J;" in done.stderr


@pytest.mark.parametrize("console", [stdout, stderr])
def test_the_consoles_interpret_no_markup(console: Console) -> None:
    with console.capture() as capture:
        console.print("runs[/x]:smile:[bold]", soft_wrap=True)
    assert capture.get() == "runs[/x]:smile:[bold]\n"


CONVERTED = """
import os, signal, sys, time
from pathlib import Path
from cifar.cli.interrupt import resumable

signal.signal(signal.SIGINT, signal.default_int_handler)
with resumable(Path("runs")):
    try:
        if sys.argv[1] == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
    except KeyboardInterrupt as error:
        raise TypeError("what TensorFlow made of it") from error
    raise TypeError("an error of its own")
"""


@pytest.mark.parametrize(("argument", "code"), [("interrupted", 130), ("not", 1)])
def test_an_error_that_a_library_makes_of_an_interrupt_ends_as_one(argument: str, code: int) -> None:
    words = [sys.executable, "-c", CONVERTED, argument]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=50)
    assert done.returncode == code, done.stderr
    assert ("the same command continues from there" in done.stderr) == (code == 130)
    assert ("TypeError: an error of its own" in done.stderr) == (code == 1)
