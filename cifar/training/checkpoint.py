"""Where an unfinished run is: everything that decides how its training goes on, in one file."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cifar.errors import UsageError
from cifar.runs.run import Run
from cifar.runs.schemas import FORMAT_VERSION, Epoch, Timing
from cifar.system import files
from cifar.system.json_files import check_version

NAME = "checkpoint.npz"


@dataclass
class Progress:
    """The lines of history and timing so far."""

    history: list[Epoch] = field(default_factory=list)
    timing: list[Timing] = field(default_factory=list)


def state(model: Any) -> list[Any]:
    """Every variable that decides how training goes on: weights, dropout's seed states, the optimizer's variables."""
    return [*model.variables, *model.optimizer.variables]


def save(run: Run, model: Any, progress: Progress) -> None:
    """Write the checkpoint, then the lines that tell of it: whatever a kill leaves, the checkpoint is the truth."""
    arrays = {f"{i:04d}": variable.numpy() for i, variable in enumerate(state(model))}
    lines = {
        "history": [line.model_dump() for line in progress.history],
        "timing": [line.model_dump() for line in progress.timing],
    }
    buffer = io.BytesIO()
    np.savez(buffer, format_version=FORMAT_VERSION, progress=json.dumps(lines), **arrays)
    files.write(run.path / NAME, buffer.getvalue())
    run.write_lines("history.jsonl", progress.history)
    run.write_lines("timing.jsonl", progress.timing)


def restore(run: Run, model: Any) -> Progress:
    """Put the checkpoint's state into the model, if there is one, and return the lines so far.

    Raises:
        UsageError: the checkpoint is damaged or of another format.
    """
    variables = state(model)
    values, progress = _read_checkpoint(run, len(variables))
    if not values:
        return progress
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    run.write_lines("history.jsonl", progress.history)
    run.write_lines("timing.jsonl", progress.timing)
    return progress


def history(run: Run) -> list[Epoch]:
    """The epochs that an unfinished run's checkpoint tells of; history.jsonl may be one behind.

    Raises:
        UsageError: the checkpoint is damaged or of another format.
    """
    return _read_checkpoint(run, 0)[1].history


def _read_checkpoint(run: Run, variables: int) -> tuple[list[Any], Progress]:
    """The values of so many variables, and the lines so far; nothing where there is no checkpoint."""
    path = run.path / NAME
    if not path.exists():
        return [], Progress()
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            values = [arrays[f"{i:04d}"] for i in range(variables)]
            version = int(arrays["format_version"])
            lines = json.loads(str(arrays["progress"])) if version == FORMAT_VERSION else {}
            progress = Progress(
                [Epoch(**line) for line in lines.get("history", [])],
                [Timing(**line) for line in lines.get("timing", [])],
            )
    except Exception as error:  # a damaged zip raises many kinds
        raise UsageError(f"{path}: not readable ({error}). Delete it to train this run from its start.") from error
    check_version({"format_version": version}, path, FORMAT_VERSION)
    return values, progress


def remove(run: Run) -> None:
    """Remove the checkpoint of a run that has ended."""
    (run.path / NAME).unlink(missing_ok=True)
