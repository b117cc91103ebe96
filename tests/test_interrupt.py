"""Ctrl-C where Python cannot raise: in a callback of the garbage collector or of a library."""

import subprocess
import sys

from conftest import ROOT

PROGRAM = """
import os, signal, time
from pathlib import Path
from cifar.cli.interrupt import resumable

class Callback:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

with resumable(Path("runs")):
    Callback()
    time.sleep(60)
"""


def test_an_interrupt_that_a_callback_swallows_ends_the_process_without_a_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, timeout=50)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "the same command continues from there" in done.stderr
