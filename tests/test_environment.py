"""What decides a run's bits is recorded or fixed, on every system; what was recorded before stays comparable."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command

from cifar.runs.run import Run
from cifar.system import environment, hardware
from cifar.training import loop


def key(facts: dict[str, Any], **cpu: object) -> dict[str, Any]:
    """The reproducibility key of facts, some of the CPU's changed."""
    return environment.reproducibility_key({**facts, "cpu": {**facts["cpu"], **cpu}})


@pytest.mark.parametrize("name", environment.DECISIVE_VARIABLES)
def test_a_variable_that_changes_the_arithmetic_is_recorded_and_part_of_the_key(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(name, raising=False)
    before = environment.facts(2)
    monkeypatch.setenv(name, "value")
    after = environment.facts(2)
    assert after["variables"][name] == "value"
    assert environment.key_differences(key(before), key(after)) == [f"{name} was not set, is value"]
    assert environment.key_differences(key(after), key(before)) == [f"{name} was value, is not set"]


def test_the_threads_of_openmp_are_recorded_and_change_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.facts(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    after = environment.facts(2)
    assert after["variables"]["OMP_NUM_THREADS"] == "7"
    assert key(before) == key(after)


@pytest.mark.parametrize(
    ("name", "fact", "value"),
    [
        ("cpu", "model", "another cpu"),
        ("cpu signature", "signature", "cpu family 6"),
        ("cpu caches", "caches", {"L2 Unified": "512K"}),
        ("architecture", "architecture", "riscv64"),
        ("instruction sets", "instruction_sets", ["avx2"]),
    ],
)
def test_the_processor_is_part_of_the_key(name: str, fact: str, value: object) -> None:
    facts = environment.facts(2)
    facts["cpu"] |= {"signature": "cpu family 26", "caches": {"L2 Unified": "1024K"}}
    (difference,) = environment.key_differences(key(facts), key(facts, **{fact: value}))
    assert difference.startswith(f"{name} was ")


def test_an_environment_that_was_recorded_before_these_facts_is_comparable() -> None:
    recorded = json.loads((ROOT / "bench/baselines/first-none-s0/environment.json").read_text())
    assert "variables" not in recorded
    facts = {**recorded, "variables": {}}
    current = key(facts, signature="cpu family 26, model 2, stepping 1", caches={"L2 Unified": "1024K"})
    assert environment.key_differences(environment.reproducibility_key(recorded), current) == []
    assert environment.key_differences(current, environment.reproducibility_key(recorded)) == []


def test_off_linux_the_processor_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_file(_: Path) -> str:
        raise FileNotFoundError

    hardware.cpu.cache_clear()
    monkeypatch.setattr(Path, "read_text", no_such_file)
    monkeypatch.setattr(platform, "processor", lambda: "a processor")
    try:
        cpu = hardware.cpu()
    finally:
        monkeypatch.undo()
        hardware.cpu.cache_clear()
    assert cpu["model"] == "a processor"
    assert cpu["instruction_sets"]
    assert (cpu["signature"], cpu["caches"]) == (None, None)


def test_a_run_is_not_resumed_or_called_equal_under_other_variables(
    pair: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loop.environment_mismatches(pair[0], 2) == []
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert loop.environment_mismatches(pair[0], 2) == ["ONEDNN_MAX_CPU_ISA was not set, is SSE41"]


def test_keras_json_changes_no_bits(cifar: Command, tiny: Path) -> None:
    arguments = ("--network", "tinynet:build", "--data", "synthetic", "--augment", "none", "--epochs", "1", "--json")
    digests = []
    for name, content in {"plain": {}, "changed": {"epsilon": 0.2, "floatx": "float64"}}.items():
        (tiny / name).mkdir()
        (tiny / name / "keras.json").write_text(json.dumps({"backend": "tensorflow", **content}))
        done = cifar("train", *arguments, "--runs", name, KERAS_HOME=str(tiny / name))
        assert done.code == 0, done.err
        digests.append(json.loads(next((tiny / name).glob("*/metrics.json")).read_text())["weights_sha256"])
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("set_before", "refused"), [(False, True), (True, False)])
def test_tensorflow_that_was_imported_without_its_variables_is_refused(set_before: bool, refused: bool) -> None:
    script = (
        "import tensorflow\n"
        "from cifar.errors import UsageError\n"
        "from cifar.system import environment\n"
        "try:\n"
        "    environment.configure(2)\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    variables = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    if set_before:
        variables["TF_ENABLE_ONEDNN_OPTS"] = "1"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=variables, timeout=600)
    assert done.returncode == 0, done.stderr
    assert ("imported without TF_ENABLE_ONEDNN_OPTS=1" in done.stdout) == refused
