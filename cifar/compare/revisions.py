"""Two revisions measured on this machine in turn (A B A B ...), so that disturbances affect both alike."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cifar.compare import benchmark_results, compare_results
from cifar.compare.benchmark_results import BenchmarkResult
from cifar.compare.limits import Limits
from cifar.compare.sessions import merge
from cifar.compare.verdict import Comparison, Verdict
from cifar.errors import CifarError, UsageError, last_line

CONSTRAINTS = "constraints.txt"
HARNESS = (Path("bench"), Path("cifar/benchmark"))
"""The folders that measure."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Revision:
    """A revision that is checked out.

    Attributes:
        name: as the user names it.
        worktree: its folder.
        python: an interpreter with the packages of its constraints.
    """

    name: str
    worktree: Path
    python: Path


def compare_revisions(
    base: str, head: str, expression: str | None, repeats: int, limits: Limits, note: Note
) -> Comparison:
    """Measure two revisions of the checkout in the current folder, in turn, and compare them.

    The head's harness measures both. The noise is what differs between sessions of the same revision. A row that
    every session of the base measures and a session of the head does not has regressed.

    Args:
        base: a revision, as git understands it.
        head: the revision that the verdicts are about.
        expression: pytest's -k; None for all rows.
        repeats: sessions of each.
        limits: the smallest differences that matter.
        note: called with a sentence about the progress.

    Raises:
        UsageError: there is no such checkout or revision.
        CifarError: a session failed.
    """
    sessions: dict[str, list[BenchmarkResult]] = {"base": [], "head": []}
    with (
        tempfile.TemporaryDirectory(prefix="cifar-compare-") as scratch,
        _checked_out(base, head, Path(scratch), note) as revisions,
    ):
        for repeat in range(repeats):
            for side, revision in zip(sessions, revisions, strict=True):
                note(f"Session {repeat + 1} of {repeats}: {side} ({revision.name})")
                output = Path(scratch, f"{side}-{repeat}.json")
                sessions[side].append(_measure(revision, expression, output))
    comparison = compare_results(_merge_in_turn(sessions["base"]), _merge_in_turn(sessions["head"]), limits)
    not_measured = []
    for name in comparison.removed:
        not_measured.append(Verdict(name, "row", "regressed", reason="the head does not measure it"))
    return replace(comparison, verdicts=not_measured + comparison.verdicts, removed=[])


@contextlib.contextmanager
def _checked_out(base: str, head: str, scratch: Path, note: Note) -> Iterator[tuple[Revision, Revision]]:
    """Both revisions in worktrees; where their constraints differ, each has an environment of its own."""
    worktrees = []
    try:
        for side, name in (("base", base), ("head", head)):
            worktree = scratch / side
            _git("worktree", "add", "--quiet", "--detach", str(worktree), f"{name}^{{commit}}")
            worktrees.append(worktree)
        base_tree, head_tree = worktrees
        base_python = head_python = Path(sys.executable)
        if _constraints(base_tree) != _constraints(head_tree):
            base_python = _make_environment(base_tree, note)
            head_python = _make_environment(head_tree, note)
        _share_harness(base_tree, head_tree)
        yield Revision(base, base_tree, base_python), Revision(head, head_tree, head_python)
    finally:
        for worktree in worktrees:
            with contextlib.suppress(UsageError):
                _git("worktree", "remove", "--force", str(worktree))


def _share_harness(base: Path, head: Path) -> None:
    """Replace the base's harness by the head's."""
    for folder in HARNESS:
        if (head / folder).is_dir():
            shutil.rmtree(base / folder, ignore_errors=True)
            shutil.copytree(head / folder, base / folder)
    shutil.copyfile(head / "pyproject.toml", base / "pyproject.toml")


def _constraints(worktree: Path) -> str:
    path = worktree / CONSTRAINTS
    if not path.exists():
        return ""
    return path.read_text()


def _make_environment(worktree: Path, note: Note) -> Path:
    """Make an environment with the packages of a revision's constraints and return its interpreter."""
    note(f"Their constraints differ: making an environment for {worktree.name}")
    home = worktree.with_name(f"{worktree.name}-environment")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    if sys.platform == "win32":
        python = home / "Scripts" / "python.exe"
    command = [str(python), "-m", "pip", "install", "--quiet"]
    command += ["-c", str(worktree / CONSTRAINTS), f"{worktree}[test]"]
    install = subprocess.run(command, capture_output=True, text=True, check=False)
    if install.returncode:
        raise CifarError(f"The environment of {worktree.name} cannot be made: {last_line(install.stderr)}")
    return python


def _measure(revision: Revision, expression: str | None, output: Path) -> BenchmarkResult:
    """Run one benchmark session over a revision's package; pytest-benchmark writes `output`."""
    command = [str(revision.python), "-m", "pytest", "bench", "--benchmark-only", f"--benchmark-json={output}", "-q"]
    if expression:
        command += ["-k", expression]
    environment = {**os.environ, "PYTHONPATH": str(revision.worktree)}
    session = subprocess.run(
        command, cwd=revision.worktree, capture_output=True, text=True, check=False, env=environment
    )
    if not output.exists():
        raise CifarError(f"The session of {revision.name} failed: {last_line(session.stdout or session.stderr)}")
    return benchmark_results.read(output)


def _merge_in_turn(sessions: list[BenchmarkResult]) -> BenchmarkResult:
    """The sessions of a revision as one result, without matrix peaks: sessions taken in turn share its drift."""
    merged = merge(sessions)
    return replace(merged, machine=merged.machine.model_copy(update={"matrix_peak": {}}))


def _git(*arguments: str) -> None:
    command = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if command.returncode:
        raise UsageError(f"git {' '.join(arguments[:2])}: {last_line(command.stderr)}")
