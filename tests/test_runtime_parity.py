"""`cifar parity`: how outputs of runtimes are compared, what is kept, and what is refused."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from helpers.onnx_files import linear
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console

from cifar.analysis.summary import summarise
from cifar.cli import parity as command
from cifar.errors import CifarError, UsageError
from cifar.formats import FORMATS, manifest
from cifar.inference import runtime_parity
from cifar.inference.isolated_prediction import WhatRan
from cifar.inference.runtime_parity import FileParity, Flip, Pair
from cifar.inference.runtimes import RUNTIMES
from cifar.report import detail_tables
from cifar.report.html import page
from cifar.report.runtime_tables import flips_table, matrix
from cifar.report.table import render
from cifar.runs.run import Run

CLASSES = [f"class {index}" for index in range(10)]


def of_two(first: str = "onnxruntime", second: str = "openvino", is_float32: bool = True, flips: int = 0) -> Pair:
    changed = [Flip(image=image, first=3, second=5) for image in range(flips)]
    return Pair(
        first=first,
        second=second,
        is_float32=is_float32,
        flips=changed,
        agreement=1 - flips / 100,
        max_difference=0.1,
    )


def file_parity(*pairs: Pair, **changes: Any) -> FileParity:
    facts: dict[str, Any] = {
        "file": "a.onnx",
        "sha256": "0" * 64,
        "format": "onnx",
        "precision": "float32",
        "images": 100,
        "data_sha256": "1" * 64,
        "versions": {"onnxruntime": "1", "openvino": "2"},
        "ran": {
            "onnxruntime": WhatRan(provider="CPUExecutionProvider", threads=2, details={}),
            "openvino": WhatRan(provider="OpenVINO, float32", threads=2, details={"streams": 1}),
        },
        "accuracy": {"onnxruntime": 0.5, "openvino": None},
        "failed": {},
        "skipped": {},
        "pairs": list(pairs),
    }
    return FileParity(**{**facts, **changes})


@given(outputs=arrays(np.float32, (2, 7, 10), elements=st.floats(0, 1, width=32)))
def test_flips_and_distance_are_numpys(outputs: np.ndarray) -> None:
    first, second = outputs
    compared = runtime_parity._compare(
        "onnxruntime", "openvino", {"onnxruntime": first, "openvino": second}, "float32"
    )
    changed = first.argmax(axis=1) != second.argmax(axis=1)
    assert [flip.image for flip in compared.flips] == np.flatnonzero(changed).tolist()
    assert compared.agreement == pytest.approx(1 - changed.mean())
    assert compared.max_difference == np.abs(first - second).max()
    for flip in compared.flips:
        assert (flip.first, flip.second) == (first[flip.image].argmax(), second[flip.image].argmax())


@pytest.mark.parametrize(
    ("second", "precision", "is_float32"),
    [
        ("openvino", "float32", True),
        ("openvino-bfloat16", "float32", False),
        ("openvino", "int8", False),
        ("openvino", "float16", False),
        ("openvino", None, False),
    ],
)
def test_only_float32_in_float32_may_not_change_a_class(second: str, precision: str | None, is_float32: bool) -> None:
    outputs = {"onnxruntime": np.eye(10, dtype=np.float32), second: np.eye(10, dtype=np.float32)[::-1]}
    compared = runtime_parity._compare("onnxruntime", second, outputs, precision)
    assert compared.is_float32 == is_float32
    result = file_parity(compared)
    limit = 0 if is_float32 else 9
    sentence = f"a.onnx: onnxruntime and {second} disagree on 10 of 100 images, at most {limit} may."
    assert result.excesses(9) == [sentence]
    assert result.excesses(10) == result.excesses(None) == ([sentence] if is_float32 else [])


def test_disagreement_has_exit_code_1_and_a_failure_only_where_the_runtime_is_required() -> None:
    with pytest.raises(CifarError, match="disagree on 1 of 100 images, at most 0 may") as raised:
        command._raise_for([file_parity(of_two(flips=1))], None, [])
    assert raised.value.exit_code == 1
    command._raise_for([file_parity(of_two(is_float32=False, flips=9))], None, [])
    with pytest.raises(CifarError, match="disagree on 9 of 100 images, at most 8 may"):
        command._raise_for([file_parity(of_two(is_float32=False, flips=9))], 8, [])
    failed = file_parity(failed={"openvino": "openvino cannot run a.onnx: no GELU."})
    command._raise_for([failed], None, [])
    with pytest.raises(CifarError, match="no GELU"):
        command._raise_for([failed], None, ["openvino"])
    with pytest.raises(CifarError, match="damaged"):
        command._raise_for([file_parity(failed={"onnxruntime": "damaged"})], None, [])


def test_the_matrix_has_flips_on_one_side_and_distances_on_the_other() -> None:
    result = file_parity(of_two(flips=3))
    table = matrix(result)
    assert table.rows == [("1", "onnxruntime", "1", "50.00", "-", "3"), ("2", "openvino", "2", "-", "1e-01", "-")]
    (flips,) = flips_table(result, CLASSES, 2)
    assert flips.title == "Changed classes in float32: 3"
    assert flips.rows[1] == ("1", "onnxruntime", "class 3", "openvino", "class 5")
    assert len(flips.rows) == 2
    assert flips_table(file_parity(of_two(is_float32=False, flips=3)), CLASSES, 2) == []


def test_the_widest_matrix_fits_80_columns() -> None:
    names = [name for name, runtime in RUNTIMES.items() if "tflite" in runtime.formats]
    versions = dict.fromkeys(names, "2026.4.1")
    ran = WhatRan(provider="OpenVINO, bfloat16", threads=1, details={})
    result = file_parity(versions=versions, accuracy=dict.fromkeys(names, 0.123), ran=dict.fromkeys(names, ran))
    console = Console(file=io.StringIO(), width=80)
    console.print(render(matrix(result)))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert [name for name in names if f" {name} " not in text] == []


def test_what_is_kept_is_read_back_and_damage_is_named(tmp_path: Path) -> None:
    result = file_parity(of_two(flips=2))
    path = runtime_parity.write(tmp_path / "a.onnx", result)
    assert path.name == "a.onnx.parity.json"
    assert runtime_parity.read(tmp_path / "a.onnx") == result
    assert runtime_parity.read(tmp_path / "b.onnx") is None
    content = json.loads(path.read_text())
    assert content["format_version"] == runtime_parity.FORMAT_VERSION
    content["parity"]["pairs"][0]["agreement"] = 2
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"a\.onnx\.parity\.json"):
        runtime_parity.read(tmp_path / "a.onnx")


def test_every_format_has_its_own_runtime_among_those_that_read_it() -> None:
    for name, row in FORMATS.items():
        assert name in RUNTIMES[row.runtime].formats
        assert RUNTIMES[row.runtime].missing is None


def test_a_file_of_a_manifest_is_compared_and_the_result_kept(cifar: Command, exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "exports")
    (path,) = (tmp_path / "exports").glob("*.int8.onnx")
    output = cifar("parity", path, "--json", "--runtime", "onnxruntime")
    assert output.code == 0, output.err
    (found,) = output.json["files"]
    assert found["versions"].keys() == {"onnxruntime"}
    assert (found["precision"], found["pairs"], found["images"]) == ("int8", [], 1000)
    kept = runtime_parity.read(path)
    assert kept is not None
    assert kept.model_dump() == found


def test_an_external_file_is_compared_and_nothing_is_written(cifar: Command, tmp_path: Path) -> None:
    path = linear(tmp_path / "theirs.onnx", ("n", 3, 32, 32))
    output = cifar("parity", path, "--data", "synthetic", "--input-range", "0..1", "--runtime", "onnxruntime")
    assert output.code == 0, output.err
    assert "precision not recorded" in output.out
    assert [path.name for path in tmp_path.glob("*.parity.json")] == []


def test_reports_show_what_was_kept_of_the_files_that_are_there(
    pair: list[Run], exported: Path, tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(pair[0].path, tmp_path / pair[0].path.name)))
    shutil.copytree(exported, run.path / "exports", dirs_exist_ok=True)
    onnx, tflite = (run.path / "exports" / f"{run.path.name}{suffix}" for suffix in (".onnx", ".tflite"))
    sha256 = {entry.file: entry.sha256 for entry in manifest.read(run.path / "exports")}
    kept = file_parity(of_two(flips=4), file=onnx.name, sha256=sha256[onnx.name])
    runtime_parity.write(onnx, kept)
    runtime_parity.write(tflite, kept)  # of another file
    summary = summarise([run])
    (table,) = [table for table in detail_tables.details(summary) if table.title == "Runtimes"]
    assert table.rows == [
        (onnx.name, "onnxruntime", "openvino", "4", "1e-01", "OpenVINO, float32, 2 thread(s), 1 stream(s)")
    ]
    assert "Runtimes</" in page.render(summary, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.onnx",), "no such file"),
        (("theirs.onnx", "--runtime", "onnxrutime"), "Did you mean 'onnxruntime'?"),
        (("theirs.onnx", "--runtime", "ai-edge-litert"), "ai-edge-litert does not read onnx files; onnxruntime,"),
        (("theirs.onnx", "--max-flips", "-1"), "--max-flips"),
    ],
)
def test_an_invalid_request_has_exit_code_2(
    arguments: tuple[str, ...], message: str, cifar: Command, tmp_path: Path
) -> None:
    linear(tmp_path / "theirs.onnx", ("n", 3, 32, 32))
    for name in ("parity", "evaluate") if "--runtime" in arguments else ("parity",):
        output = cifar(name, *arguments)
        assert output.code == 2
        assert message in " ".join(output.err.split())


@pytest.mark.skipif(RUNTIMES["openvino"].missing is None, reason="OpenVINO is installed")
def test_a_runtime_that_is_not_installed_is_skipped_or_refused_with_its_extra(cifar: Command, tmp_path: Path) -> None:
    path = linear(tmp_path / "theirs.onnx", ("n", 3, 32, 32))
    arguments = (path, "--data", "synthetic", "--input-range", "0..1")
    skipped = cifar("parity", *arguments)
    assert skipped.code == 0, skipped.err
    assert "openvino: skipped, openvino is not installed: pip install 'cifar-bench[openvino]'." in skipped.err
    for name in ("parity", "evaluate"):
        refused = cifar(name, *arguments, "--runtime", "openvino")
        assert refused.code == 2
        assert "openvino is not installed: pip install 'cifar-bench[openvino]'." in refused.err
