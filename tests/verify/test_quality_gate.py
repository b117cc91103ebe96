"""The quality gate passes sound code; bugs fail it under a known reproducibility key and under an unknown one."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, isolated
from helpers.benchmark_results import benchmark_result, steady_row
from helpers.in_process import run_cli
from helpers.sabotage import sabotage
from numpy.typing import NDArray

from cifar.data import augmentation
from cifar.data.dataset import draw_synthetic
from cifar.errors import UsageError
from cifar.formats import FORMATS
from cifar.metrics.classification import pack_mask
from cifar.networks import NETWORKS, PUBLISHED
from cifar.recipes import POLICIES
from cifar.training import fast_layers
from cifar.verify import gate_baseline, quality_gate
from cifar.verify.gate_baseline import Baseline, Measured, Measurement, ReleasedOutputs

BASELINE = ROOT / "bench" / "baselines" / "gate.json"


@pytest.fixture
def baseline() -> Baseline:
    return gate_baseline.read(BASELINE)


def as_baseline_measured(baseline: Baseline, known: bool) -> Measured:
    """What the machine of the baseline measured, under its own key or under another one."""
    measurement = baseline.measurements[0]
    if not known:
        key = {**measurement.reproducibility_key, "cpu": "another cpu"}
        measurement = measurement.model_copy(update={"reproducibility_key": key})
    return Measured(baseline.digests, baseline.released, measurement)


def change(measured: Measured, **changes: Any) -> Measured:
    return replace(measured, measurement=measured.measurement.model_copy(update=changes))


def change_row(measured: Measured, name: str, **changes: Any) -> Measured:
    rows = {**measured.measurement.rows}
    rows[name] = rows[name].model_copy(update=changes)
    return change(measured, rows=rows)


def test_the_baseline_has_a_row_for_every_format_network_policy_and_released_file(baseline: Baseline) -> None:
    assert {"keras", *FORMATS} == set(baseline.measurements[0].rows)
    assert set(PUBLISHED) == set(baseline.measurements[0].step_losses)
    assert {f"architecture, {name}" for name in NETWORKS} < set(baseline.digests)
    assert {f"batches, {name}" for name in POLICIES} < set(baseline.digests)
    models = json.loads((ROOT / "exports" / "manifest.json").read_text())["models"]
    assert {model["file"] for model in models} == set(baseline.released)


@pytest.mark.parametrize(("known", "outcome"), [(True, "equal"), (False, "within tolerance")])
def test_equal_results_pass(baseline: Baseline, known: bool, outcome: str) -> None:
    result = gate_baseline.compare(baseline, as_baseline_measured(baseline, known))
    assert (result.outcome, result.differences) == (outcome, [])
    assert bool(result.key_differences) != known


def test_only_a_known_key_is_compared_bit_by_bit(baseline: Baseline) -> None:
    for known in (True, False):
        measured = change_row(as_baseline_measured(baseline, known), "onnx", outputs_sha256="0" * 64)
        differences = gate_baseline.compare(baseline, measured).differences
        assert ("onnx: outputs_sha256" in "".join(differences)) == known


@pytest.mark.parametrize("known", [True, False])
def test_missing_rows_losses_digests_and_released_files_fail(baseline: Baseline, known: bool) -> None:
    sound = as_baseline_measured(baseline, known)
    rows = {name: row for name, row in sound.measurement.rows.items() if name != "onnx"}
    cases = {
        "onnx: missing": change(sound, rows=rows),
        "keras: missing": change(sound, rows={}),
        "losses of the first batches": change(sound, step_losses={}),
        "SHA-256 of drawn images: missing": replace(sound, digests={}),
        ".onnx: missing": change(replace(sound, released={}), released_sha256={}),
    }
    for message, measured in cases.items():
        assert message in " ".join(gate_baseline.compare(baseline, measured).differences)


@pytest.mark.parametrize("known", [True, False])
def test_images_and_architectures_are_the_same_on_every_machine(baseline: Baseline, known: bool) -> None:
    sound = as_baseline_measured(baseline, known)
    for name in baseline.digests:
        measured = replace(sound, digests={**sound.digests, name: "0" * 64})
        assert f"SHA-256 of {name}: was" in gate_baseline.compare(baseline, measured).differences[0]


def test_what_was_drawn_here_has_the_digests_of_the_baseline(baseline: Baseline) -> None:
    assert quality_gate.digest_inputs(draw_synthetic()) == baseline.digests


def test_a_worse_accuracy_fails_by_the_paired_test_on_images(baseline: Baseline) -> None:
    sound = as_baseline_measured(baseline, known=False)
    correct = np.zeros(1000, bool)
    correct[:500] = True
    worse = change_row(sound, "keras", accuracy=0.5, correct_mask=pack_mask(correct))
    (difference,) = gate_baseline.compare(baseline, worse).differences
    assert "keras: accuracy was" in difference
    assert "on the same images" in difference


def test_a_lower_agreement_and_another_loss_fail(baseline: Baseline) -> None:
    sound = as_baseline_measured(baseline, known=False)
    (difference,) = gate_baseline.compare(baseline, change_row(sound, "tflite-int8", agreement=0.8)).differences
    assert "tflite-int8: agreement with the Keras model was" in difference
    losses = {**sound.measurement.step_losses}
    losses["first"] = [*losses["first"][:-1], losses["first"][-1] + 0.01]
    (difference,) = gate_baseline.compare(baseline, change(sound, step_losses=losses)).differences
    assert f"first: the loss of batch {quality_gate.STEPS} was" in difference
    losses["first"] = [float("nan")] * quality_gate.STEPS
    assert gate_baseline.compare(baseline, change(sound, step_losses=losses)).differences


def test_other_outputs_of_a_released_file_fail(baseline: Baseline) -> None:
    sound = as_baseline_measured(baseline, known=False)
    for name, outputs in baseline.released.items():
        mirrored = outputs.first_probabilities[:, ::-1]
        other = ReleasedOutputs.of(np.tile(mirrored, (100, 1)), outputs.precision)
        measured = replace(sound, released={**sound.released, name: other})
        assert name in " ".join(gate_baseline.compare(baseline, measured).differences)


def test_an_unknown_key_is_added_and_a_changed_result_replaces_all(baseline: Baseline, tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    unknown = as_baseline_measured(baseline, known=False)
    gate_baseline.write(path, unknown, baseline)
    assert gate_baseline.read(path).measurements == [*baseline.measurements, unknown.measurement]
    assert gate_baseline.compare(gate_baseline.read(path), unknown).outcome == "equal"
    changed = replace(unknown, digests={"drawn images": "0" * 64})
    gate_baseline.write(path, changed, baseline)
    assert gate_baseline.read(path).measurements == [unknown.measurement]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runs", "--gate", "gate.json"), "either a run folder or --golden or --gate"),
        (("--golden", "--gate", "gate.json"), "either a run folder or --golden or --gate"),
        (("--gate", "absent.json"), "absent.json"),
        (("runs", "--save", "table.json"), "--update and --save go with"),
    ],
)
def test_an_invalid_request_has_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    result = run_cli(["verify", *arguments])
    assert result.code == 2
    assert message in result.err


def test_a_baseline_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text('{"format_version": 9}')
    with pytest.raises(UsageError, match="format_version is 9, this program reads 1"):
        gate_baseline.read(tmp_path / "gate.json")


def test_a_comparison_without_a_common_row_fails(tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    base.write_text(json.dumps(benchmark_result(steady_row("a"))))
    for name, result in {"empty": benchmark_result(), "other": benchmark_result(steady_row("b"))}.items():
        head = tmp_path / f"{name}.json"
        head.write_text(json.dumps(result))
        compared = run_cli(["compare", str(base), str(head)])
        assert compared.code == 1
        assert "no row in common" in compared.err


# Planted bugs, in parts of the gate


def test_a_bug_in_augmentation_changes_a_digest_on_every_machine(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct_apply = augmentation.apply

    def apply_mirrored(images: NDArray[np.uint8], p: augmentation.Parameters) -> NDArray[np.uint8]:
        return correct_apply(images, replace(p, columns=-p.columns))

    monkeypatch.setattr(augmentation, "apply", apply_mirrored)
    digests = quality_gate.digest_inputs(draw_synthetic())
    measured = replace(as_baseline_measured(baseline, known=False), digests=digests)
    differences = " ".join(gate_baseline.compare(baseline, measured).differences)
    assert "batches, shift-flip: was" in differences
    assert "batches, none" not in differences


@pytest.mark.parametrize("bug", ["drop", "convolve"])
def test_a_bug_in_the_training_step_changes_a_loss_beyond_the_tolerance(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    correct = getattr(fast_layers, bug)
    if bug == "drop":
        monkeypatch.setattr(fast_layers, "drop", lambda _layer, features: features)
    else:
        monkeypatch.setattr(fast_layers, "convolve", lambda layer, images: correct(layer, images) * 1.05)
    losses = {}
    for network in PUBLISHED:
        recipe = quality_gate.RECIPE.model_copy(update={"network": network})
        losses[network] = quality_gate.first_losses(recipe, draw_synthetic())
    measured = change(as_baseline_measured(baseline, known=False), step_losses=losses)
    differences = gate_baseline.compare(baseline, measured).differences
    assert len(differences) >= 2


# Planted bugs, in the whole gate

MEASURE = f"""
import json
from pathlib import Path
from cifar.errors import CifarError
from cifar.system import environment
from cifar.verify import quality_gate
environment.configure(2)
try:
    measured = quality_gate.measure(2, Path({str(ROOT / "exports")!r}))
    released = {{name: outputs.model_dump() for name, outputs in measured.released.items()}}
    print(json.dumps([measured.digests, released, measured.measurement.model_dump()]))
except CifarError as error:
    print(json.dumps(str(error)))
"""
AUGMENTATION = """
import dataclasses
from cifar.data import augmentation
correct = augmentation.apply
augmentation.apply = lambda images, p: correct(images, dataclasses.replace(p, columns=-p.columns))
"""
TRAINING_STEP = """
from cifar.training import fast_layers
fast_layers.drop = lambda layer, features: features
"""
EXPORTER = """
from cifar.formats import graph
correct = graph._with_fixed_flatten
def with_wrong_weights(model, dtype):
    fixed = correct(model, dtype)
    fixed.set_weights([weight * 1.01 for weight in fixed.get_weights()])
    return fixed
graph._with_fixed_flatten = with_wrong_weights
"""
SCALE = """
import dataclasses
from cifar.formats import tflite_int8
correct = tflite_int8.write
def write(source, path):
    correct(dataclasses.replace(source, calibration=source.calibration // 255), path)
tflite_int8.write = write
"""


def measure(tmp_path: Path, bug: str) -> Measured | str:
    """What the gate measures in a process in which a bug is planted; the message where it is refused."""
    variables = sabotage(tmp_path / "site", bug)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        env=isolated(tmp_path, **variables),
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout.splitlines()[-1])
    if isinstance(content, str):
        return content
    digests, released, measurement = content
    outputs = {name: ReleasedOutputs.model_validate(facts) for name, facts in released.items()}
    return Measured(digests, outputs, Measurement.model_validate(measurement))


def with_key(measured: Measured, baseline: Baseline, known: bool) -> Measured:
    key = {**baseline.measurements[0].reproducibility_key}
    if not known:
        key["cpu"] = "another cpu"
    return change(measured, reproducibility_key=key)


@pytest.mark.slow
def test_sound_code_passes_the_whole_gate(baseline: Baseline, tmp_path: Path) -> None:
    measured = measure(tmp_path, "")
    assert isinstance(measured, Measured), measured
    assert gate_baseline.compare(baseline, measured).differences == []
    assert gate_baseline.compare(baseline, with_key(measured, baseline, known=False)).differences == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "message"),
    [
        (AUGMENTATION, "SHA-256 of batches, shift-flip"),
        (TRAINING_STEP, "the loss of batch 1 was"),
        (EXPORTER, "refused"),
        (SCALE, "tflite-int8: agreement with the Keras model"),
    ],
    ids=["augmentation", "training step", "exporter", "scale"],
)
def test_planted_bugs_fail_the_whole_gate_under_any_key(
    baseline: Baseline, tmp_path: Path, bug: str, message: str
) -> None:
    measured = measure(tmp_path, bug)
    if isinstance(measured, str):
        assert message in measured
        return
    known = gate_baseline.compare(baseline, with_key(measured, baseline, known=True))
    assert known.outcome == "different"
    unknown = gate_baseline.compare(baseline, with_key(measured, baseline, known=False))
    assert message in " ".join(unknown.differences)
