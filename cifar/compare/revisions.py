"""Two revisions measured on this machine in turn (A B A B ...), so that what disturbs it disturbs both alike."""

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

import numpy as np

from cifar.compare import compare_results, results
from cifar.compare.limits import Limits
from cifar.compare.results import Result, Row
from cifar.compare.verdict import Comparison, Verdict
from cifar.errors import CifarError, UsageError, last_line

CONSTRAINTS = "constraints.txt"
Note = Callable[[str], None]


@dataclass(frozen=True)
class Revision:
    """A revision checked out.

    Attributes:
        name: as it was asked for.
        folder: its worktree.
        python: the interpreter that has what its constraints name.
    """

    name: str
    folder: Path
    python: Path


def compare_revisions(
    base: str, head: str, expression: str | None, repeats: int, limits: Limits, note: Note
) -> Comparison:
    """Measure two revisions of the checkout in the current folder, in turn, and compare them.

    The head's harness measures both. A session of a revision is one repetition: the noise is what differs between
    sessions of the same revision. A row that every session of the base measures, and one of the head
    does not, has regressed.

    Args:
        base: a revision, as git understands it.
        head: the one that is judged.
        expression: pytest's -k; None for all rows.
        repeats: sessions of each.
        limits: the smallest differences that matter.
        note: is told how it goes on.

    Raises:
        UsageError: there is no such checkout or revision.
        CifarError: a session failed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="cifar-compare-") as scratch,
        _checked_out(base, head, Path(scratch), note) as both,
    ):
        sessions: dict[str, list[Result]] = {"base": [], "head": []}
        for repeat in range(repeats):
            for side, revision in zip(sessions, both, strict=True):
                note(f"Session {repeat + 1} of {repeats}: {side} ({revision.name})")
                answer = Path(scratch, f"{side}-{repeat}.json")
                sessions[side].append(_measure(revision, expression, answer))
    found = compare_results(_merged(sessions["base"]), _merged(sessions["head"]), limits)
    failed = [Verdict(name, "row", "regressed", reason="the head does not measure it") for name in found.removed]
    return replace(found, verdicts=[*failed, *found.verdicts], removed=[])


@contextlib.contextmanager
def _checked_out(base: str, head: str, scratch: Path, note: Note) -> Iterator[tuple[Revision, Revision]]:
    """Both revisions in worktrees of their own, with an environment each where this one will not do."""
    made = []
    try:
        for side, name in (("base", base), ("head", head)):
            folder = scratch / side
            _git("worktree", "add", "--quiet", "--detach", str(folder), f"{name}^{{commit}}")
            made.append(folder)
        pythons = [Path(sys.executable)] * 2
        if len({_constraints(folder) for folder in made}) == 2:
            pythons = [_install(folder, note) for folder in made]
        _share_harness(*made)
        yield Revision(base, made[0], pythons[0]), Revision(head, made[1], pythons[1])
    finally:
        for folder in made:
            with contextlib.suppress(UsageError):
                _git("worktree", "remove", "--force", str(folder))


def _share_harness(base: Path, head: Path) -> None:
    """Let the head's harness measure the base too."""
    shutil.rmtree(base / "bench", ignore_errors=True)
    shutil.copytree(head / "bench", base / "bench")
    shutil.copyfile(head / "pyproject.toml", base / "pyproject.toml")


def _constraints(folder: Path) -> str:
    path = folder / CONSTRAINTS
    return path.read_text() if path.exists() else ""


def _install(folder: Path, note: Note) -> Path:
    """A new environment with what a revision's constraints name."""
    note(f"Their constraints differ: making an environment for {folder.name}")
    home = folder.with_name(f"{folder.name}-environment")
    venv.create(home, with_pip=True)
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(folder / CONSTRAINTS), f"{folder}[test]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CifarError(f"The environment of {folder.name} cannot be made: {last_line(done.stderr)}")
    return python


def _measure(revision: Revision, expression: str | None, answer: Path) -> Result:
    """One session over a revision's package."""
    command = [str(revision.python), "-m", "pytest", "bench", "--benchmark-only", f"--benchmark-json={answer}", "-q"]
    command += ["-k", expression] if expression else []
    environment = {**os.environ, "PYTHONPATH": str(revision.folder)}
    done = subprocess.run(command, cwd=revision.folder, capture_output=True, text=True, check=False, env=environment)
    if not answer.exists():
        raise CifarError(f"The session of {revision.name} failed: {last_line(done.stdout or done.stderr)}")
    return results.read(answer)


def _merged(sessions: list[Result]) -> Result:
    """Sessions of one revision as one result, each a repetition; rows that are not in all of them are left out."""
    rows = {
        name: _merged_row([session.rows[name] for session in sessions])
        for name in sessions[0].rows
        if all(name in session.rows for session in sessions)
    }
    return replace(sessions[0], rows=rows, machine=sessions[0].machine.model_copy(update={"matrix_peak": {}}))


def _merged_row(rows: list[Row]) -> Row:
    facts = {**rows[0].facts, "repeats": [len(row.samples) for row in rows]}
    return Row(rows[0].name, facts, np.concatenate([row.samples for row in rows]))


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"git {' '.join(arguments[:2])}: {last_line(done.stderr)}")
