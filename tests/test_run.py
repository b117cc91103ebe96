import json
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar.errors import BusyError, StorageError, UsageError
from cifar.recipes import Recipe, recipe
from cifar.runs.run import Run, locked_run, runs_in
from cifar.runs.schemas import Identity
from cifar.system import files
from cifar.system.files import lock

DATA, NETWORK = "d" * 64, "n" * 64


def identity(**changes: object) -> Identity:
    changed: Recipe = recipe("first", "none", dataset="synthetic").model_copy(update=changes)
    return Identity.of(changed, DATA, NETWORK)


def make(runs: Path, requested: Identity) -> Path:
    with locked_run(runs, requested) as run:
        return run.path


def test_a_run_is_named_after_network_policy_and_seed(tmp_path: Path) -> None:
    assert make(tmp_path, identity(seed=7)) == tmp_path / "first-none-s7"


def test_the_same_recipe_gets_the_same_folder_again(tmp_path: Path) -> None:
    assert make(tmp_path, identity()) == make(tmp_path, identity())


def test_a_suffix_tells_apart_recipes_that_differ(tmp_path: Path) -> None:
    first, second, third = (make(tmp_path, identity(epochs=epochs)) for epochs in (5, 6, 7))
    assert first.name == "first-none-s0"
    assert second.name == f"first-none-s0-{identity(epochs=6).recipe_sha256[:8]}"
    assert len({first, second, third}) == 3
    assert make(tmp_path, identity(epochs=6)) == second


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (Identity.of(identity().recipe, "e" * 64, NETWORK), "data_sha256 is ddd"),
        (Identity.of(identity().recipe, DATA, "m" * 64), "network_sha256 is nnn"),
    ],
)
def test_other_data_or_another_network_under_the_same_name_is_refused(
    tmp_path: Path, requested: Identity, message: str
) -> None:
    path = make(tmp_path, identity())
    before = (path / "recipe.json").read_bytes()
    with pytest.raises(UsageError, match=message):
        make(tmp_path, requested)
    assert (path / "recipe.json").read_bytes() == before


def test_a_changed_recipe_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    path = make(tmp_path, identity()) / "recipe.json"
    content = json.loads(path.read_text())
    content["recipe"]["batch_size"] = 33
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="batch_size is 33 there, 64 was requested"):
        make(tmp_path, identity())
    assert json.loads(path.read_text()) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format_version": 2}', "format_version is 2, this program reads 1"),
        ("{}", "format_version is None"),
        ("[]", "expected a JSON object"),
        ("{", "not JSON"),
        ('{"format_version": 1}', "recipe: Field required"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_recipe_that_is_not_ours_is_refused(tmp_path: Path, content: str, message: str) -> None:
    folder = tmp_path / "first-none-s0"
    folder.mkdir()
    (folder / "recipe.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        Run(folder)
    with pytest.raises(UsageError, match=message):
        make(tmp_path, identity())
    assert (folder / "recipe.json").read_text() == content


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "first-none-s0").mkdir()
    (tmp_path / "first-none-s0" / "thesis.tex").write_text("text")
    with pytest.raises(UsageError, match=r"holds thesis\.tex and no recipe\.json"):
        make(tmp_path, identity())
    assert [p.name for p in tmp_path.glob("*/*") if not p.name.startswith(".")] == ["thesis.tex"]


@pytest.mark.parametrize(("path", "message"), [("absent", "no such run folder"), ("empty", "it has no recipe.json")])
def test_a_path_that_is_no_run_is_refused(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        Run(tmp_path / path)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run in it"):
        runs_in(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        runs_in(tmp_path / "absent")


LOCK = """
import sys, time
from pathlib import Path
from cifar.system.files import lock
with lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_run_locked_by_another_process_is_busy_until_that_process_is_killed(tmp_path: Path) -> None:
    path = make(tmp_path, identity())
    with subprocess.Popen([sys.executable, "-c", LOCK, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        assert Run(path).status == "running"
        with pytest.raises(BusyError):
            make(tmp_path, identity())
        holder.kill()
    assert make(tmp_path, identity()) == path
    assert Run(path).status == "interrupted"


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock(tmp_path):
        _ = 1 / 0
    with lock(tmp_path):
        pass


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_write_replaces_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes
) -> None:
    path = tmp_path_factory.mktemp("write") / "file"
    files.write(path, first)
    files.write(path, second)
    assert path.read_bytes() == second
    assert list(path.parent.iterdir()) == [path]


def _write_half(path: Path) -> None:
    with files.atomic_replace(path) as scratch:
        scratch.write_text("half")
        _ = 1 / 0


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    files.write(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError):
        _write_half(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for names in (("a", "b"), ("c",)):
        with files.atomic_replace(tmp_path / "folder") as scratch:
            scratch.mkdir()
            for name in names:
                (scratch / name).write_text(name)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["c"]
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_folder_that_cannot_be_replaced_is_restored(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("old")
    with pytest.raises(StorageError), files.atomic_replace(tmp_path / "folder"):
        pass  # nothing was written, so there is nothing to rename
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_checkpoint_that_a_kill_left_is_removed_from_a_finished_run(tmp_path: Path) -> None:
    path = make(tmp_path, identity())
    for name in ("checkpoint.npz", "metrics.json"):
        (path / name).write_text("{}")
    make(tmp_path, identity())
    assert not (path / "checkpoint.npz").exists()


def test_a_full_disk_is_a_storage_error_that_names_the_path_and_keeps_the_old_file(tmp_path: Path) -> None:
    files.write(tmp_path / "file", "old")
    script = """
        import resource, signal, sys
        from pathlib import Path
        from cifar.errors import StorageError
        from cifar.system import files
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            files.write(Path(sys.argv[1]), b"x" * 5000)
        except StorageError as error:
            print(error.exit_code, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "file")], capture_output=True, text=True
    )
    assert done.stdout.startswith("4 "), done.stderr
    assert str(tmp_path) in done.stdout
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - hidden files count
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        make(tmp_path / "file" / "runs", identity())


@given(content=st.dictionaries(st.text(max_size=5), st.binary(max_size=20), min_size=1, max_size=4))
def test_the_digest_of_a_folder_depends_on_names_and_bytes(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]
) -> None:
    base = tmp_path_factory.mktemp("digest")
    for name in ("one", "two", "renamed", "changed"):
        (base / name).mkdir()
        for index, value in enumerate(content.values()):
            shift = 100 if name == "renamed" else 0
            (base / name / f"f{index + shift}").write_bytes(value + (b"!" if name == "changed" else b""))
    digest = {folder.name: files.sha256(folder) for folder in base.iterdir()}
    assert digest["one"] == digest["two"]
    assert len(set(digest.values())) == 3


def test_what_a_killed_process_was_writing_is_removed_when_the_run_is_locked_again(tmp_path: Path) -> None:
    path = make(tmp_path, identity())
    (path / ".model.keras.x7.part").mkdir()
    (path / ".model.keras.x7.part" / "model.keras").write_bytes(b"half")
    make(tmp_path, identity())
    assert sorted(p.name for p in path.iterdir()) == [".lock", "recipe.json"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"format_version":1,"rung":"repeated","words":"equal"}', "format_version is 1, this program reads 2"),
        ("{}", "format_version is None"),
        ('{"format_version":2,"check":"repeated"}', "result: Field required"),
        ("[]", "content: Input should be an object"),
        ("{", "Invalid JSON"),
    ],
)
def test_verifications_of_another_format_are_refused_in_one_sentence(tmp_path: Path, line: str, message: str) -> None:
    path = make(tmp_path, identity())
    (path / "verify.jsonl").write_text(f"{line}\n")
    with pytest.raises(UsageError) as error:
        _ = Run(path).verifications
    assert str(error.value).startswith(f"{path / 'verify.jsonl'}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
