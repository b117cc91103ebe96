"""Gains, averages and claims follow from the runs' own files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, train_here
from hypothesis import given
from hypothesis import strategies as st

from cifar import export
from cifar.analysis.claims import Claim, judge_claims
from cifar.analysis.comparisons import PrecisionComparison, between_precisions
from cifar.analysis.gains import Pair
from cifar.analysis.summary import summarise
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.formats import manifest
from cifar.metrics import statistics
from cifar.recipes import recipe
from cifar.report import plots
from cifar.runs.run import Run
from cifar.runs.schemas import Epoch

PolicyRuns = dict[tuple[str, int], Run]


def copied(run: Run, folder: Path) -> Run:
    """Return a copy of a run that a test may change."""
    return Run(Path(shutil.copytree(run.path, folder / run.path.name)))


def test_the_gain_is_the_difference_on_the_same_images(pair: list[Run]) -> None:
    (group,) = summarise(pair).groups
    (gain,) = group.gains()
    plain, augmented = (run.metrics.accuracy for run in pair)
    assert gain.difference == pytest.approx(augmented - plain)
    correct_masks = []
    for run in pair:
        probabilities, labels = run.predictions()
        correct_masks.append(probabilities.argmax(axis=1) == labels)
    assert gain.p_value == statistics.paired_difference(*correct_masks).p_value
    assert (gain.seeds, gain.basis) == ([0], "test images, one seed")


def test_over_seeds_the_gain_is_the_mean_of_the_paired_differences(policy_runs: PolicyRuns) -> None:
    runs = [policy_runs["none", 0], policy_runs["none", 1]]
    runs += [policy_runs["shift-flip", seed] for seed in (0, 1, 2)]  # a seed without its plain run does not count
    (gain,) = summarise(runs).groups[0].gains()
    accuracy, last_epochs = {}, {}
    for run in runs:
        key = run.recipe.policy.name, run.recipe.seed
        accuracy[key] = run.metrics.accuracy
        last_epochs[key] = np.mean([epoch.test_accuracy for epoch in run.history[-5:]])
    differences = [accuracy["shift-flip", seed] - accuracy["none", seed] for seed in (0, 1)]
    assert gain.seeds == [0, 1]
    assert gain.difference == pytest.approx(np.mean(differences))
    assert gain.interval == statistics.mean(differences).interval
    assert gain.p_value is None
    of_last_epochs = [last_epochs["shift-flip", seed] - last_epochs["none", seed] for seed in (0, 1)]
    assert gain.mean_last_epochs_interval == statistics.mean(of_last_epochs).interval


def test_precisions_are_compared_over_the_seeds_that_both_have() -> None:
    names = ["first-tuned-bfloat16-none-s0", "first-tuned-shift-flip-s0", "first-tuned-shift-flip-s1"]
    names += [f"first-tuned-bfloat16-shift-flip-s{seed}" for seed in (0, 1, 2)]
    runs = {name: Run(ROOT / "bench" / "baselines" / name) for name in names}
    (comparison,) = between_precisions(summarise(list(runs.values())).groups)
    accuracy = {name: run.metrics.accuracy for name, run in runs.items()}
    changes = []
    for seed in (0, 1):
        changes.append(
            accuracy[f"first-tuned-bfloat16-shift-flip-s{seed}"] - accuracy[f"first-tuned-shift-flip-s{seed}"]
        )
    assert (comparison.network, comparison.augment, comparison.seeds) == ("first-tuned", "shift-flip", [0, 1])
    assert comparison.change == statistics.mean(changes)
    assert comparison.change.mean == pytest.approx(comparison.bfloat16.mean - comparison.float32.mean)


@given(st.floats(-0.1, 0.1), st.floats(0, 0.1))
def test_accuracies_are_equivalent_where_the_whole_interval_is_within_a_point(low: float, width: float) -> None:
    mean = statistics.mean([0.5, 0.6])
    change = replace(mean, interval=(low, low + width))
    verdict = PrecisionComparison("first", "none", [0, 1], mean, mean, change).is_equivalent
    inside = abs(low) <= 0.01 and abs(low + width) <= 0.01
    outside = low > 0.01 or low + width < -0.01
    assert verdict == (True if inside else False if outside else None)
    unknown = replace(mean, interval=None)
    assert PrecisionComparison("first", "none", [0], mean, mean, unknown).is_equivalent is None


def test_an_average_is_over_all_seeds_of_a_policy(policy_runs: PolicyRuns) -> None:
    runs = [policy_runs["none", 0], policy_runs["none", 1], policy_runs["flip", 0]]
    plain, flip = summarise(runs).groups[0].averages()
    last_epochs = []
    for run in runs:
        last_epochs.append(float(np.mean([epoch.test_accuracy for epoch in run.history[-5:]])))
    assert (plain.augment, plain.seeds, flip.augment, flip.seeds) == ("none", [0, 1], "flip", [0])
    assert plain.test == statistics.mean([run.metrics.accuracy for run in runs[:2]])
    assert plain.interval == plain.test.interval
    assert plain.mean_last_epochs == statistics.mean(last_epochs[:2])
    assert plain.train == pytest.approx(np.mean([run.metrics.train_accuracy_clean for run in runs[:2]]))
    assert flip.mean_last_epochs.interval is None
    assert flip.interval == runs[2].metrics.accuracy_interval  # over test images


def test_the_cost_of_a_format_is_what_its_manifest_says(
    policy_runs: PolicyRuns, small: Dataset, tmp_path: Path
) -> None:
    assert summarise([policy_runs["none", 2]]).groups[0].exported() == []
    runs = [copied(policy_runs["none", seed], tmp_path) for seed in (0, 1)]
    for run in runs:
        export.export_runs([run], small, ["onnx", "onnx-int8"], run.path / "exports", max_drop=100)
    with manifest.locked_entries(runs[0].path / "exports") as entries:  # a file of other weights does not count
        other = next(iter(entries.values())).model_copy(update={"weights_sha256": "0" * 64, "file": "other.onnx"})
        entries["other.onnx"] = other.model_copy(update={"accuracy": 0.0, "agreement": 0.0})
    onnx, int8 = summarise(runs).groups[0].exported()
    changes = []
    for run in runs:
        for entry in manifest.read(run.path / "exports"):
            if entry.file == f"{run.path.name}.int8.onnx":
                changes.append(entry.accuracy - run.metrics.accuracy)
    assert (onnx.format, onnx.change.mean, onnx.agreement) == ("onnx", 0.0, 1.0)
    assert int8.change == statistics.mean(changes)
    assert (int8.worst, int8.best) == (min(changes), max(changes))


def test_below_twenty_epochs_no_claim_is_judged(pair: list[Run]) -> None:
    (group,) = summarise(pair).groups
    assert [claim.verdict for claim in group.claims()] == ["too short to judge"] * 5


def claims_with(pair: list[Run], plain: dict[str, float], augmented: dict[str, float]) -> list[Claim]:
    """Return the claims if both runs had 20 such epochs; accuracies and predictions stay those of the runs."""
    summary = summarise([Run(run.path) for run in pair])
    for result, line in zip(summary.results, (plain, augmented), strict=True):
        result.history = [Epoch(epoch=epoch, weights_sha256="", **line) for epoch in range(1, 21)]
        longer = result.run.recipe.model_copy(update={"epochs": 20})
        result.run.identity = result.run.identity.model_copy(update={"recipe": longer})
        result.metrics = result.metrics.model_copy(update={"train_accuracy_clean": line["accuracy"] + 0.2})
    return summary.groups[0].claims()


def test_one_seed_gives_the_figures_of_its_two_runs_and_no_verdict(pair: list[Run]) -> None:
    overfit = {"loss": 0.2, "accuracy": 0.9, "test_loss": 0.9, "test_accuracy": 0.8}
    narrow = {"loss": 0.6, "accuracy": 0.7, "test_loss": 0.5, "test_accuracy": 0.75}
    for plain, augmented in ((overfit, narrow), (narrow, overfit), (overfit, overfit)):
        claims = claims_with(pair, plain, augmented)
        assert [claim.verdict for claim in claims] == ["one seed: cannot tell"] * 5
        assert [claim.p_value for claim in claims] == [None] * 5
    claims = claims_with(pair, overfit, narrow)
    assert "+0.700 to -0.100, narrower by +0.800 (one seed)" in claims[1].figures
    assert "75.0% against 70.0%" in claims[3].figures
    plain_accuracy, augmented_accuracy = (f"{run.metrics.accuracy:.1%}" for run in pair)
    assert claims[2].figures.startswith(f"{plain_accuracy} to {augmented_accuracy} after the last epoch")
    assert claims[2].figures.endswith("(test images, one seed)")  # what the interval is of


def run_with(loss_gap: float, accuracy: float, clean: float = 0.5) -> Any:
    """Return as much of a FinishedRun as the claims need."""
    last_epochs = {"test_accuracy": accuracy, "accuracy": clean}
    return SimpleNamespace(
        loss_gap=loss_gap,
        mean_last_epochs=last_epochs.get,
        scores=SimpleNamespace(accuracy=accuracy),
        metrics=SimpleNamespace(train_accuracy_clean=clean),
        run=SimpleNamespace(recipe=SimpleNamespace(epochs=50)),
        seed=0,
    )


@pytest.mark.parametrize(
    ("gaps", "narrowed", "accuracies", "expected"),
    [
        ((0.10, 0.11, 0.12), (0.0, 0.0, 0.0), (0.60, 0.61, 0.62), ["yes"] * 5),
        ((0.12, -0.02, 0.13), (0.14, 0.05, 0.0), (0.58, 0.48, 0.49), ["cannot tell"] * 5),
        ((-0.10, -0.11, -0.12), (0.0, 0.0, 0.0), (0.40, 0.41, 0.42), ["no"] * 5),
    ],
)
def test_of_several_seeds_the_interval_decides_every_exploratory_claim(
    gaps: tuple[float, ...], narrowed: tuple[float, ...], accuracies: tuple[float, ...], expected: list[str]
) -> None:
    pairs = []
    for gap, narrowed_gap, accuracy in zip(gaps, narrowed, accuracies, strict=True):
        pairs.append(Pair(run_with(gap, 0.55), run_with(narrowed_gap, accuracy)))
    claims = judge_claims("first", "flip", pairs)
    assert [claim.verdict for claim in claims] == expected
    assert not any(claim.primary or claim.adjusted_p_value for claim in claims)
    low, high = statistics.mean([a - b for a, b in zip(gaps, narrowed, strict=True)]).interval or (0, 0)
    assert f"95 % {low:+.3f} to {high:+.3f} (3 seeds)" in claims[1].figures


def primary_claims(gaps: tuple[float, ...], network: str = "first tuned bfloat16") -> list[Claim]:
    """Return the claims on three seeds whose plain runs have these gaps."""
    pairs = [Pair(run_with(gap, 0.55), run_with(0.0, accuracy)) for gap, accuracy in zip(gaps, SPREAD, strict=True)]
    return judge_claims(network, "shift-flip", pairs)


SPREAD = (0.58, 0.48, 0.49)  # accuracies of three seeds that differ so much that nothing can be told of them


def test_the_primary_family_is_corrected_for_its_number() -> None:
    gaps = (0.09, 0.12, 0.16)  # p = 0.026
    claims, exploratory = primary_claims(gaps), primary_claims(gaps, "third")
    assert all(claim.primary for claim in claims)
    assert [claim.p_value for claim in claims] == [claim.p_value for claim in exploratory]
    p_values = [claim.p_value for claim in claims if claim.p_value is not None]
    assert [claim.adjusted_p_value for claim in claims] == statistics.holm(p_values)
    assert (claims[0].p_value, claims[0].adjusted_p_value) == pytest.approx((0.0260, 0.1299), abs=1e-4)
    assert (claims[0].verdict, exploratory[0].verdict) == ("cannot tell", "yes")
    assert claims[0].figures == exploratory[0].figures  # the intervals are not corrected
    assert primary_claims((0.120, 0.121, 0.122))[0].verdict == "yes"


def test_of_several_policies_the_published_one_is_judged(policy_runs: PolicyRuns) -> None:
    others = [policy_runs[augment, 0] for augment in ("none", "flip", "rotate")]
    (group,) = summarise(others).groups
    assert {claim.claim.split()[0] for claim in group.claims()} == {"the", "flip", "rotate", "with"}
    (group,) = summarise([*others, policy_runs["shift-flip", 0]]).groups
    assert not any("rotate" in claim.claim for claim in group.claims())
    assert len(group.claims()) == 5


def test_predictions_that_do_not_give_the_accuracy_are_refused(pair: list[Run], tmp_path: Path) -> None:
    run = copied(pair[0], tmp_path)
    metrics = json.loads((run.path / "metrics.json").read_text())
    (run.path / "metrics.json").write_text(json.dumps({**metrics, "accuracy": metrics["accuracy"] + 0.01}))
    with pytest.raises(UsageError, match=r"predictions\.npz gives accuracy"):
        summarise([run])


def test_the_ten_misclassified_images_are_the_most_confident(pair: list[Run]) -> None:
    first, _ = summarise(pair).results
    rows = first.misclassified("confident")
    probabilities, labels = pair[0].predictions()
    wrong = probabilities.argmax(axis=1) != labels
    assert len(rows) == 10
    assert all(wrong[row["index"]] for row in rows)
    expected = np.sort(probabilities.max(axis=1)[wrong])[::-1][:10]
    assert [row["confidence"] for row in rows] == expected.tolist()


def test_groups_that_differ_in_threads_only_have_names_and_curves_of_their_own(
    six_runs: list[Run], small: Dataset, tmp_path: Path
) -> None:
    two_threads = six_runs[2]
    one_thread = train_here([recipe("second", "none", epochs=1, dataset="synthetic", threads=1)], small, tmp_path)
    groups = summarise([two_threads, *one_thread]).groups
    names = [group.name for group in groups]
    assert len(set(names)) == 2
    assert all(name.startswith("second-synthetic-300x1-") for name in names)
    assert [group.label for group in groups] == names
    columns = plots.overview(groups).axes[: len(names)]
    assert [panel.get_title() for panel in columns] == [f"{name}\nseed 0" for name in names]
