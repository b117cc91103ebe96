"""What `cifar verify` finds: nothing where a run is sound, the first difference where it is not."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Command
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cifar.data import augmentation
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.runs.run import Run, locked_run
from cifar.runs.schemas import Epoch, Identity, Verification
from cifar.training import loop
from cifar.training.callback import SilentCallback
from cifar.verify import consistency, golden, run_check
from cifar.verify.result import CheckOptions


def verify(
    run: Run, data: Dataset, check: str = "repeated", epochs: int | None = None, threads: int = 2
) -> Verification:
    return run_check(run, data, check, CheckOptions(threads, lambda _: nullcontext(SilentCallback()), epochs))


@pytest.fixture
def copy(pair: list[Run], tmp_path: Path) -> Run:
    """The augmented run of the pair, to be tampered with."""
    return Run(Path(shutil.copytree(pair[1].path, tmp_path / pair[1].path.name)))


def change(path: Path, line: int, field: str, value: object) -> None:
    lines = path.read_text().splitlines()
    content = json.loads(lines[line])
    assert content[field] != value
    lines[line] = json.dumps({**content, field: value})
    path.write_text("\n".join(lines) + "\n")


def test_a_sound_run_is_equal_and_what_was_found_stands_beside_it(copy: Run, small: Dataset) -> None:
    found = verify(copy, small)
    assert (found.result, found.epochs) == ("equal", 3)
    assert "3 epochs and the predictions" in found.message
    assert verify(copy, small, epochs=1).epochs == 1
    assert [verification.epochs for verification in copy.verifications] == [3, 1]


@pytest.mark.parametrize("field", ["loss", "accuracy", "test_loss", "test_accuracy"])
def test_a_changed_figure_is_named_with_its_epoch(copy: Run, small: Dataset, field: str) -> None:
    change(copy.path / "history.jsonl", 1, field, 0.5)
    found = verify(copy, small, epochs=2)
    assert found.result == "different"
    assert f"epoch 2: {field} is 0.5 in history.jsonl" in found.message


def test_a_figure_that_can_be_none_is_a_difference_too(copy: Run, small: Dataset) -> None:
    change(copy.path / "history.jsonl", 0, "accuracy", 9.5)
    found = verify(copy, small, epochs=1)
    assert (found.result, "history.jsonl" in found.message) == ("different", True)


def test_a_changed_digest_of_weights_is_named(copy: Run, small: Dataset) -> None:
    change(copy.path / "history.jsonl", 0, "weights_sha256", "0" * 64)
    found = verify(copy, small, epochs=1)
    assert "epoch 1: weights_sha256 is 0000000000000000… in history.jsonl" in found.message


def test_a_prefix_tells_of_a_change_behind_it(copy: Run, small: Dataset) -> None:
    change(copy.path / "history.jsonl", 1, "loss", 2.0)
    found = verify(copy, small, epochs=1)
    assert found.result == "different"
    assert "history.jsonl was changed" in found.message


@settings(deadline=None)  # a folder is copied for each
@given(data=st.data())
def test_any_digit_changed_anywhere_in_the_history_is_told(
    data: st.DataObject, pair: list[Run], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("changed") / "run"
    shutil.copytree(pair[0].path, folder, ignore=shutil.ignore_patterns("model.keras"))
    path = folder / "history.jsonl"
    text = path.read_text()
    place = data.draw(st.sampled_from([i for i, letter in enumerate(text) if letter.isdigit()]))
    digit = data.draw(st.sampled_from("0123456789").filter(lambda d: d != text[place]))
    path.write_text(text[:place] + digit + text[place + 1 :])
    assert consistency.find_inconsistency(Run(folder)) or consistency.changed_history(Run(folder))


def test_changed_metrics_predictions_models_and_recipes_are_told(
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
        found = verify(Run(run.path), small, epochs=1)
        assert found.result == "different", name
        assert message in found.message


def test_an_interrupted_run_is_compared_as_far_as_it_got(pair: list[Run], small: Dataset, tmp_path: Path) -> None:
    identity: Identity = pair[1].identity
    with locked_run(tmp_path, identity) as run, pytest.raises(KeyboardInterrupt):
        loop.train(run, small, Stopping(2))
    assert verify(run, small).epochs == 2
    with pytest.raises(UsageError, match="has 2 epochs to compare with, 3 were options for"):
        verify(run, small, epochs=3)
    change(run.path / "history.jsonl", 1, "loss", 2.0)
    assert "beside checkpoint.npz" in verify(run, small, epochs=1).message


class Stopping(SilentCallback):
    def __init__(self, after: int) -> None:
        self.after = after

    def epoch(self, line: Epoch, timing: object) -> None:  # noqa: ARG002
        if line.epoch == self.after:
            raise KeyboardInterrupt


def test_under_other_conditions_the_distance_is_stated_and_equality_not_claimed(copy: Run, small: Dataset) -> None:
    environment = json.loads((copy.path / "environment.json").read_text())
    environment["packages"]["keras"] = "3.0.0"
    (copy.path / "environment.json").write_text(json.dumps(environment))
    found = verify(copy, small)
    assert found.result == "distance"
    assert "keras was 3.0.0, is" in found.message
    assert found.figures["weights_relative_difference"] == 0
    assert found.figures["agreement"] == 1
    assert "no more can be said" in verify(copy, small, epochs=1).message
    with pytest.raises(UsageError, match=r"keras was 3\.0\.0"):
        verify(copy, small, "interrupted")


def test_an_environment_that_does_not_say_where_is_refused(copy: Run, small: Dataset) -> None:
    (copy.path / "environment.json").write_text('{"packages": []}')
    with pytest.raises(UsageError, match="does not say where"):
        verify(copy, small, epochs=1)


def test_a_network_that_changed_is_refused(copy: Run, small: Dataset) -> None:
    identity = copy.identity.model_copy(update={"network_sha256": "0" * 64})
    (copy.path / "model.keras").unlink()
    (copy.path / "recipe.json").write_text(identity.model_dump_json())
    with pytest.raises(UsageError, match="no longer the one"):
        verify(Run(copy.path), small)


def test_killed_and_resumed_is_equal_and_a_changed_history_is_not(copy: Run, small: Dataset) -> None:
    found = verify(copy, small, "interrupted")
    assert found.result == "equal", found.message
    assert len(found.figures["moments"]) >= 2  # the last kill may come too late
    assert found.epochs == 2
    change(copy.path / "history.jsonl", 0, "weights_sha256", "0" * 64)
    assert "epoch 1: weights_sha256" in verify(copy, small, "interrupted", epochs=1).message


def test_images_are_equal_and_those_that_know_their_batch_are_not(
    copy: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verify(copy, small, "images").result == "equal"
    rightly = augmentation.apply

    def wrongly(images: NDArray[np.uint8], parameters: augmentation.Parameters) -> NDArray[np.uint8]:
        made = rightly(images, parameters)
        made[99:100] += 1
        return made

    monkeypatch.setattr(augmentation, "apply", wrongly)
    found = verify(copy, small, "images")
    assert found.result == "different"
    assert "in batches of 128, it is not what it is alone" in found.message


def test_the_command_line(cifar: Command, tmp_path: Path) -> None:
    (tmp_path / "tinynet.py").write_text(TINY)
    trained = cifar(
        "train", "--network", "tinynet:build", "--augment", "all", "--data", "synthetic", "--epochs", "2", "--json"
    )
    path = trained.json["runs"][0]["path"]
    assert cifar("verify", path, "--epochs", "1").code == 0
    other = cifar("verify", path, "--threads", "1", "--json")
    assert other.code == 0
    assert "threads was 2, is 1" in other.json["checks"][0]["message"]
    assert cifar("verify", path, "--check", "exports").code == 0
    report = cifar("report", "runs")
    assert "exports" in report.out
    assert "6 formats, exported in two processes" in " ".join(report.out.split())
    assert "interrupted" not in report.out
    change(tmp_path / path / "history.jsonl", 0, "loss", 2.5)
    changed = cifar("verify", path, "--epochs", "1", "--json")
    assert changed.code == 1
    assert changed.json["equal"] is False
    assert "epoch 1: loss is 2.5 in history.jsonl" in changed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either a run folder or --golden"),
        (("runs", "--golden"), "either a run folder or --golden"),
        (("runs", "--update"), "--update goes with --golden"),
        (("--golden", "--epochs", "1"), "--golden has none"),
        (("absent",), "no such run folder"),
        (("absent", "--check", "export"), "Did you mean 'exports'?"),
    ],
)
def test_a_request_that_cannot_be_met_is_2(cifar: Command, arguments: tuple[str, ...], message: str) -> None:
    answer = cifar("verify", *arguments)
    assert answer.code == 2
    assert message in answer.err


def test_the_golden_runs_are_what_they_were(cifar: Command) -> None:
    answer = cifar("verify", "--golden", "--json", CI="")
    assert answer.code == 0, answer.err
    if answer.json["golden"] == "skipped":
        pytest.skip("nobody has measured golden runs for this machine's key")
    assert answer.json["golden"] == "equal"


def test_a_key_that_nobody_measured_is_skipped_with_a_word_and_fails_in_ci(cifar: Command) -> None:
    alone = cifar("verify", "--golden", "--threads", "7", CI="")
    assert (alone.code, alone.out.strip()) == (0, "Golden runs: skipped.")
    assert "7 threads: skipped" in alone.err
    in_ci = cifar("verify", "--golden", "--threads", "7", CI="true")
    assert in_ci.code == 1
    assert "add them with" in in_ci.err
    assert cifar("verify", "--golden", "--threads", "7", "--update", CI="true").code == 2


LINE = Epoch(epoch=1, loss=2.0, accuracy=0.1, test_loss=2.0, test_accuracy=0.1, weights_sha256="a" * 64)


def entry(step: int = 2, threads: int = 2, lines: tuple[Epoch, ...] = (LINE,)) -> golden.Entry:
    return golden.Entry(key={"training_step": step, "threads": threads}, cpu="a cpu", runs={"run": list(lines)})


def test_a_golden_difference_is_named() -> None:
    assert golden.difference(entry(), entry()) is None
    changed = golden.difference(entry(), entry(lines=(LINE.model_copy(update={"weights_sha256": "b" * 64}),)))
    assert changed
    assert changed.startswith("run, epoch 1: weights_sha256")
    assert "1 epochs are golden, 0" in (golden.difference(entry(), entry(lines=())) or "")


def test_a_new_key_is_added_and_those_of_an_earlier_step_go(tmp_path: Path) -> None:
    table = tmp_path / "golden.json"
    for made in (entry(step=1), entry(), entry(threads=1)):
        golden.add(made, table)
    content = json.loads(table.read_text())
    assert content["format_version"] == 1
    assert [made["key"] for made in content["entries"]] == [entry().key, entry(threads=1).key]
