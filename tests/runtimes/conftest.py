"""Node's packages and the C program, installed and built as their READMEs say, once for all tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray

from cifar.data.dataset import draw_synthetic, load_cifar10


def require(*commands: str) -> None:
    """Skip a test where a command is missing; where CI is set that is a failure."""
    for command in commands:
        if shutil.which(command) is None:
            end = pytest.fail if os.environ.get("CI") else pytest.skip
            end(f"there is no {command} on this machine")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of Node and the built C program, where a clone has them."""
    require("npm", "node", "make", "cc")
    folder = tmp_path_factory.mktemp("installed")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / name, folder)
    subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=folder, check=True, timeout=600)
    example = folder / "exports" / "examples" / "c"
    shutil.copytree(ROOT / "exports" / "examples" / "c", example)
    subprocess.run(["make", "-B", f"PYTHON={sys.executable}"], cwd=example, check=True, timeout=600)
    return folder


@pytest.fixture
def programs(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, from which packages and program are found; those of a test alone."""
    (tmp_path / "node_modules").symlink_to(installed / "node_modules")
    (tmp_path / "exports").symlink_to(installed / "exports")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def test_images() -> NDArray[np.uint8]:
    """The test images of the data set that CIFAR10_DIR names, all of them; else 1,000 synthetic ones."""
    if "CIFAR10_DIR" in os.environ:
        return load_cifar10(None, lambda _: None, download=False).x_test
    return draw_synthetic(1, 1000).x_test
