"""The programs in exports/examples run as their users would run them: without this package."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from cifar.data.dataset import Dataset
from cifar.formats import FLOAT32_FORMATS, FORMATS
from cifar.runs.run import Run

FOLDER = ROOT / "exports" / "examples"
EXAMPLES = {name: FOLDER / f"classify_{FORMATS[name].module_name}.py" for name in FLOAT32_FORMATS}


@pytest.mark.parametrize("name", FLOAT32_FORMATS)
@pytest.mark.parametrize("index", [3, 50])
def test_an_example_classifies_an_image_file_as_the_run_does(
    name: str, index: int, exported: Path, pair: list[Run], small: Dataset, tmp_path: Path
) -> None:
    Image.fromarray(small.x_test[index]).save(tmp_path / "picture.png")
    model = exported / f"{pair[0].path.name}{FORMATS[name].suffix}"
    done = subprocess.run(
        [sys.executable, "-I", EXAMPLES[name], model, "picture.png"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    probabilities = pair[0].predictions()[0][index]
    best = np.argsort(-probabilities)[:3]
    expected = [f"{small.class_names[i]:12} {probabilities[i]:.1%}" for i in best]
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("name", FLOAT32_FORMATS)
def test_an_example_needs_the_runtime_numpy_and_an_image_reader_alone(name: str) -> None:
    allowed = {
        "saved-model": {"tensorflow"},
        "tflite": {"ai_edge_litert"},
        "onnx": {"onnxruntime"},
    }[name]
    tree = ast.parse(EXAMPLES[name].read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {module.split(".")[0] for module in imported} - set(sys.stdlib_module_names)
    assert roots == {*allowed, "numpy", "PIL"}


@pytest.mark.parametrize("name", FLOAT32_FORMATS)
def test_an_example_without_arguments_says_how_it_is_used(name: str) -> None:
    done = subprocess.run([sys.executable, EXAMPLES[name]], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"python {EXAMPLES[name].name} MODEL" in done.stderr
