"""`cifar verify` reports that a correct run is equal, and names the first difference of any other."""

import json
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from conftest import ROOT, Command, train_here
from helpers.in_process import run_cli
from helpers.sabotage import sabotage
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cifar.cli import verify as cli_verify
from cifar.data import augmentation
from cifar.data.dataset import Dataset, draw_synthetic
from cifar.errors import CifarError, NotComparableError, UsageError
from cifar.recipes import recipe
from cifar.runs.run import Run, locked_run
from cifar.runs.schemas import Epoch, Identity, Verification
from cifar.system import environment
from cifar.training import loop
from cifar.training.callback import SilentCallback
from cifar.verify import consistency, golden, interrupted, run_check
from cifar.verify.check_result import CheckOptions


def verify(
    run: Run, data: Dataset, check: str = "repeated", epochs: int | None = None, threads: int = 2
) -> Verification:
    return run_check(run, data, check, CheckOptions(threads, lambda _: nullcontext(SilentCallback()), epochs))


@pytest.fixture
def copy(pair: list[Run], tmp_path: Path) -> Run:
    """A copy of the augmented run of the pair, which a test may change."""
    return Run(Path(shutil.copytree(pair[1].path, tmp_path / pair[1].path.name)))


def change(path: Path, line: int, field: str, value: object) -> None:
    lines = path.read_text().splitlines()
    content = json.loads(lines[line])
    assert content[field] != value
    lines[line] = json.dumps({**content, field: value})
    path.write_text("\n".join(lines) + "\n")


def test_a_correct_run_is_equal_and_the_result_is_written_to_its_folder(copy: Run, small: Dataset) -> None:
    verification = verify(copy, small)
    assert (verification.result, verification.epochs) == ("equal", 3)
    assert "3 epochs and the predictions" in verification.message
    assert verify(copy, small, epochs=1).epochs == 1
    assert [verification.epochs for verification in copy.verifications] == [3, 1]


@pytest.mark.parametrize("check", ["repeated", "interrupted"])
def test_the_first_epochs_have_the_learning_rates_of_the_whole_recipe(
    check: str, small: Dataset, tmp_path: Path
) -> None:
    changes = {"schedule": "linear", "warmup": 0.2}
    scheduled = recipe("second", "none", epochs=4, dataset="synthetic").model_copy(update=changes)
    (run,) = train_here([scheduled], small, tmp_path)
    verification = verify(run, small, check, epochs=2)
    assert (verification.result, verification.epochs) == ("equal", 2), verification.message


def test_after_a_change_of_the_training_step_the_commit_that_can_verify_is_named(copy: Run, small: Dataset) -> None:
    facts = json.loads((copy.path / "environment.json").read_text())
    facts["settings"]["training_step"] = 1
    (copy.path / "environment.json").write_text(json.dumps({**facts, "commit": "123abc"}))
    verification = verify(copy, small, epochs=1)
    assert verification.result == "distance"
    assert verification.message.endswith("The commit that trained it can verify it: 123abc")


@pytest.mark.parametrize("field", ["loss", "accuracy", "test_loss", "test_accuracy"])
def test_a_changed_value_is_named_with_its_epoch(copy: Run, small: Dataset, field: str) -> None:
    change(copy.path / "history.jsonl", 1, field, 0.5)
    verification = verify(copy, small, epochs=2)
    assert verification.result == "different"
    assert f"epoch 2: {field} is 0.5 in history.jsonl" in verification.message


def test_a_value_outside_its_range_is_a_difference_too(copy: Run, small: Dataset) -> None:
    change(copy.path / "history.jsonl", 0, "accuracy", 9.5)
    verification = verify(copy, small, epochs=1)
    assert (verification.result, "history.jsonl" in verification.message) == ("different", True)


def test_a_changed_digest_of_weights_is_named(copy: Run, small: Dataset) -> None:
    change(copy.path / "history.jsonl", 0, "weights_sha256", "0" * 64)
    verification = verify(copy, small, epochs=1)
    assert "epoch 1: weights_sha256 is 0000000000000000… in history.jsonl" in verification.message


def test_verifying_the_first_epoch_reports_a_change_in_a_later_one(copy: Run, small: Dataset) -> None:
    change(copy.path / "history.jsonl", 1, "loss", 2.0)
    verification = verify(copy, small, epochs=1)
    assert verification.result == "different"
    assert "history.jsonl was changed" in verification.message


@settings(deadline=None)  # a folder is copied for each
@given(data=st.data())
def test_any_digit_changed_anywhere_in_the_history_is_reported(
    data: st.DataObject, pair: list[Run], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("changed") / "run"
    shutil.copytree(pair[0].path, folder, ignore=shutil.ignore_patterns("model.keras"))
    path = folder / "history.jsonl"
    text = path.read_text()
    place = data.draw(st.sampled_from([i for i, letter in enumerate(text) if letter.isdigit()]))
    digit = data.draw(st.sampled_from("0123456789").filter(lambda d: d != text[place]))
    path.write_text(text[:place] + digit + text[place + 1 :])
    assert consistency.find_inconsistency(Run(folder)) or consistency.find_changed_history(Run(folder))


def test_changed_metrics_predictions_models_and_recipes_are_reported(
    copy: Run, pair: list[Run], small: Dataset, tmp_path: Path
) -> None:
    for name, message in {
        "metrics.json": "last test accuracy",
        "predictions.npz": "predictions.npz",
        "model.keras": "model.keras",
        "recipe.json": "recipe.json",
    }.items():
        run = Run(Path(shutil.copytree(copy.path, tmp_path / name)))
        if name == "metrics.json":
            metrics = json.loads((run.path / name).read_text())
            (run.path / name).write_text(json.dumps({**metrics, "accuracy": metrics["accuracy"] + 0.01}))
        elif name == "recipe.json":
            identity = json.loads((run.path / name).read_text())
            identity["recipe"]["learning_rate"] = 0.002
            (run.path / name).write_text(json.dumps(identity))
        else:
            shutil.copyfile(pair[0].path / name, run.path / name)
        verification = verify(Run(run.path), small, epochs=1)
        assert verification.result == "different", name
        assert message in verification.message


def test_an_interrupted_run_is_compared_up_to_its_last_epoch(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    identity: Identity = pair[1].identity
    with locked_run(tmp_path, identity) as run, pytest.raises(KeyboardInterrupt):
        loop.train(run, small, Stopping(2))
    assert verify(run, small).epochs == 2
    with pytest.raises(UsageError, match="has 2 epochs to compare with, 3 were requested"):
        verify(run, small, epochs=3)
    change(run.path / "history.jsonl", 1, "loss", 2.0)
    assert "compared with checkpoint.npz" in verify(run, small, epochs=1).message


class Stopping(SilentCallback):
    def __init__(self, after: int) -> None:
        self.after = after

    def epoch(self, line: Epoch, timing: object) -> None:  # noqa: ARG002
        if line.epoch == self.after:
            raise KeyboardInterrupt


def test_in_another_environment_the_distance_is_measured_and_equality_not_claimed(copy: Run, small: Dataset) -> None:
    facts = json.loads((copy.path / "environment.json").read_text())
    facts["packages"]["keras"] = "3.0.0"
    (copy.path / "environment.json").write_text(json.dumps(facts))
    verification = verify(copy, small)
    assert verification.result == "distance"
    assert "keras was 3.0.0, is" in verification.message
    assert verification.figures["weights_relative_difference"] == 0
    assert verification.figures["agreement"] == 1
    assert "nothing else can be compared" in verify(copy, small, epochs=1).message
    with pytest.raises(UsageError, match=r"the environment differs: keras was 3\.0\.0"):
        verify(copy, small, "interrupted")


def test_an_environment_without_the_reproducibility_key_is_refused(copy: Run, small: Dataset) -> None:
    (copy.path / "environment.json").write_text('{"packages": []}')
    with pytest.raises(UsageError, match="does not say in which environment"):
        verify(copy, small, epochs=1)


def test_a_network_that_changed_is_refused(copy: Run, small: Dataset) -> None:
    identity = copy.identity.model_copy(update={"network_sha256": "0" * 64})
    (copy.path / "model.keras").unlink()
    (copy.path / "recipe.json").write_text(identity.model_dump_json())
    with pytest.raises(UsageError, match="no longer the one"):
        verify(Run(copy.path), small)


def test_killed_and_resumed_is_equal_and_a_changed_history_is_not(
    copy: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    verification = verify(copy, small, "interrupted")
    assert verification.result == "equal", verification.message
    assert len(verification.figures["moments"]) >= 2  # the last kill may come too late
    assert verification.epochs == 2
    monkeypatch.setattr(interrupted, "KILLS", 1)
    change(copy.path / "history.jsonl", 0, "weights_sha256", "0" * 64)
    assert "epoch 1: weights_sha256" in verify(copy, small, "interrupted", epochs=1).message


def test_augmented_images_are_equal_unless_they_depend_on_their_batch(
    copy: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verify(copy, small, "images").result == "equal"
    correct_apply = augmentation.apply

    def apply_wrongly_to_one_of_a_batch(
        images: NDArray[np.uint8], parameters: augmentation.Parameters
    ) -> NDArray[np.uint8]:
        augmented = correct_apply(images, parameters)
        augmented[99:100] += 1
        return augmented

    monkeypatch.setattr(augmentation, "apply", apply_wrongly_to_one_of_a_batch)
    verification = verify(copy, small, "images")
    assert verification.result == "different"
    assert "augmented in batches of 128, it differs from the one augmented alone" in verification.message


def test_the_command_line(cifar: Command, tiny: Path, tmp_path: Path) -> None:
    assert tiny == tmp_path
    train_here([recipe("tinynet:build", "all", epochs=2, dataset="synthetic")], draw_synthetic(), tmp_path / "runs")
    path = "runs/tinynet.build-all-s0"
    assert cifar("verify", path, "--check", "repeated,exports", "--epochs", "1").code == 0
    other = cifar("verify", path, "--threads", "1", "--json")
    assert other.code == 6
    assert (other.json["outcome"], other.json["equal"]) == ("not comparable", False)
    assert "threads was 2, is 1" in other.json["checks"][0]["message"]
    assert "not comparable: The environment differs (threads was 2, is 1)" in other.err
    report = cifar("report", "runs", "--details")
    assert "exports" in report.out
    assert "6 formats, exported in two processes" in " ".join(report.out.split())
    assert "interrupted" not in report.out
    change(tmp_path / path / "history.jsonl", 0, "loss", 2.5)
    changed = cifar("verify", path, "--epochs", "1", "--json")
    assert changed.code == 1
    assert (changed.json["outcome"], changed.json["equal"]) == ("different", False)
    assert "epoch 1: loss is 2.5 in history.jsonl" in changed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either a run folder or --golden"),
        (("runs", "--golden"), "either a run folder or --golden"),
        (("runs", "--update"), "--update and --save go with --golden"),
        (("--golden", "--epochs", "1"), "--golden and --gate have none"),
        (("absent",), "no such run folder"),
        (("absent", "--check", "export"), "Did you mean 'exports'?"),
    ],
)
def test_an_invalid_request_has_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    result = run_cli(["verify", *arguments])
    assert result.code == 2
    assert message in result.err


def test_the_golden_runs_are_what_they_were(cifar: Command, tmp_path: Path) -> None:
    result = cifar("verify", "--golden", "--save", "table.json", "--json", CI="true")
    assert result.code == 0, result.err
    known = not result.json["key_differences"]
    assert result.json["golden"] == ("equal" if known else "within tolerance")
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["entries"][-1]["reproducibility_key"] == result.json["reproducibility_key"]


UNKNOWN_CPU = """
from cifar.system import hardware
facts = {**hardware.cpu(), "model": "another cpu"}
hardware.cpu = lambda: facts
"""
FASTER = """
from cifar import recipes
correct = recipes.recipe
recipes.recipe = lambda *a, **b: correct(*a, **b).model_copy(update={"learning_rate": 0.003})
"""


@pytest.mark.slow
def test_golden_runs_under_an_unknown_key_pass_within_the_tolerance_and_fail_beyond_it(
    cifar: Command, tmp_path: Path
) -> None:
    sound = cifar("verify", "--golden", CI="true", **sabotage(tmp_path / "sound", UNKNOWN_CPU))
    assert (sound.code, sound.out.strip()) == (0, "Golden runs: within tolerance."), sound.err
    assert "is another cpu" in sound.err
    assert "--save FILE" in sound.err
    changed = cifar("verify", "--golden", CI="true", **sabotage(tmp_path / "changed", UNKNOWN_CPU + FASTER))
    assert (changed.code, changed.out.strip()) == (1, "Golden runs: different.")
    assert "Training has changed: first-none-s0: the loss of batch" in changed.err


@pytest.mark.parametrize("table", [("--golden",), ("--gate", "gate.json")])
def test_committed_results_are_not_updated_in_ci(table: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    result = run_cli(["verify", *table, "--update"])
    assert result.code == 2
    assert "refused in CI" in result.err


def test_the_outcome_is_the_worst_of_the_checks_and_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results: list[tuple[Literal["equal", "distance", "different"], str, type[CifarError] | None]] = [
        ("equal", "equal", None),
        ("distance", "not comparable", NotComparableError),
        ("different", "different", CifarError),
    ]
    verifications = []
    for result, outcome, error in results:
        verifications.append(
            Verification(
                check="repeated", result=result, message=result, figures={}, epochs=1, verified="", commit=None
            )
        )
        context = pytest.raises(error) if error else nullcontext()
        with context as raised:
            cli_verify._print_verifications(tmp_path, verifications, as_json=True)
        assert json.loads(capsys.readouterr().out)["outcome"] == outcome
        if error:
            assert raised is not None
            assert type(raised.value) is error
            assert result in str(raised.value)
    assert (NotComparableError.exit_code, CifarError.exit_code) == (6, 1)


@pytest.mark.parametrize(("exit_code", "was_killed"), [(-9, True), (1, True), (0, False)])
def test_a_killed_process_is_told_from_a_finished_one_on_every_system(
    monkeypatch: pytest.MonkeyPatch, exit_code: int, was_killed: bool
) -> None:
    """Windows has no SIGKILL: a process that is killed there ends with code 1."""

    class Child:
        finished = False

        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> "Child":
            return self

        def __exit__(self, *_: object) -> None: ...
        def receive(self) -> None: ...
        def resume(self) -> None: ...
        def kill(self) -> int:
            return exit_code

    monkeypatch.setattr(interrupted, "ChildProcess", Child)
    monkeypatch.setattr(interrupted, "MAX_DELAY", 0)
    monkeypatch.delattr("signal.SIGKILL")
    assert interrupted.train_and_kill(None, 0) == was_killed  # type: ignore[arg-type]


LINE = Epoch(epoch=1, loss=2.0, accuracy=0.1, test_loss=2.0, test_accuracy=0.1, weights_sha256="a" * 64)


def entry(step: int = 2, threads: int = 2, lines: tuple[Epoch, ...] = (LINE,), cpu: str = "a cpu") -> golden.Entry:
    key = {"training_step": step, "threads": threads, "cpu": cpu}
    return golden.Entry(reproducibility_key=key, cpu=cpu, runs={"run": list(lines)})


def test_a_golden_difference_is_named() -> None:
    assert golden.find_difference(entry(), entry()) is None
    changed = golden.find_difference(entry(), entry(lines=(LINE.model_copy(update={"weights_sha256": "b" * 64}),)))
    assert changed
    assert changed.startswith("run, epoch 1: weights_sha256")
    assert "1 epochs are golden, 0" in (golden.find_difference(entry(), entry(lines=())) or "")


def test_under_another_key_only_a_distance_beyond_the_tolerance_is_a_difference() -> None:
    other_bits = LINE.model_copy(update={"weights_sha256": "b" * 64, "loss": 2.001})
    near = golden.compare(entry(), entry(lines=(other_bits,), cpu="another cpu"))
    assert (near.outcome, near.key_differences) == ("within tolerance", ["cpu was a cpu, is another cpu"])
    assert golden.compare(entry(), entry(lines=(other_bits,))).outcome == "different"
    for changes in ({"loss": 2.04}, {"loss": None}, {"test_accuracy": 0.4}):
        far = golden.compare(entry(), entry(lines=(LINE.model_copy(update=changes),), cpu="another cpu"))
        assert far.outcome == "different"
        assert f"run, epoch 1: {next(iter(changes))} is" in far.differences[0]
    assert golden.compare(entry(), entry(lines=(), cpu="another cpu")).outcome == "different"


def test_another_loss_of_a_first_batch_is_a_difference_under_any_key() -> None:
    def with_losses(losses: list[float], cpu: str) -> golden.Entry:
        return entry(cpu=cpu).model_copy(update={"first_losses": {"run": losses}})

    recorded = with_losses([2.3, 2.2], "a cpu")
    assert golden.compare(recorded, with_losses([2.3, 2.2001], "another cpu")).outcome == "within tolerance"
    for losses in ([2.3, 2.21], [2.3], []):
        (difference,) = golden.compare(recorded, with_losses(losses, "another cpu")).differences
        assert difference.startswith("run: the loss")
    assert golden.compare(entry(), with_losses([2.0], "another cpu")).outcome == "within tolerance"


def test_entries_without_the_facts_that_the_key_has_gained_are_still_compared_bit_by_bit() -> None:
    key = golden.reproducibility_key(2)
    names = ("system", "cpu", "cpu signature", "cpu caches", *environment.DECISIVE_VARIABLES)
    earlier = {name: value for name, value in key.items() if name not in names}
    recorded = golden.Entry(reproducibility_key=earlier, cpu=key["cpu"], runs={})
    assert recorded.key_differences({**key, "system": "Linux"}) == []
    assert recorded.key_differences({**key, "system": "Linux", "cpu": "another"}) == [
        f"cpu was {key['cpu']}, is another"
    ]


def test_a_new_key_is_added_and_those_of_an_earlier_step_go(tmp_path: Path) -> None:
    table = tmp_path / "golden.json"
    for new_entry in (entry(step=1), entry(), entry(threads=1)):
        golden.add_entry(new_entry, table)
    content = json.loads(table.read_text())
    assert content["format_version"] == 2
    keys = [table_entry["reproducibility_key"] for table_entry in content["entries"]]
    assert keys == [entry().reproducibility_key, entry(threads=1).reproducibility_key]


def test_a_table_of_format_version_1_is_refused_in_one_sentence(tmp_path: Path) -> None:
    table = tmp_path / "golden.json"
    table.write_text('{"format_version": 1, "entries": [{"key": {}, "cpu": "a cpu", "runs": {}}]}')
    with pytest.raises(UsageError) as error:
        golden.find_closest_entry(2, table)
    assert str(error.value) == f"{table}: format_version is 1, this program reads 2."


def test_a_verification_names_the_commit_of_this_checkout() -> None:
    git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    if git.returncode != 0:
        pytest.skip("not a git checkout")
    environment.commit.cache_clear()
    commit = environment.commit()
    assert commit is not None
    assert commit.removesuffix("-dirty") == git.stdout.strip()
