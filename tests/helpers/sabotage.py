"""A program that every Python process of a test runs at its start."""

import os
from pathlib import Path

from conftest import ROOT


def sabotage(folder: Path, program: str) -> dict[str, str]:
    """Return the variables under which every Python process runs a program at its start."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(program)
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
