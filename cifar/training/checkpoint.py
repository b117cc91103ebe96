"""The checkpoint of an unfinished run: everything that decides how its training continues, in one file."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cifar.errors import UsageError, first_line
from cifar.runs.run import Run
from cifar.runs.schemas import FORMAT_VERSION, Epoch, Timing
from cifar.system import files
from cifar.system.json_files import check_version
from cifar.system.npz_files import read_npz

NAME = "checkpoint.npz"
MAX_PROGRESS_BYTES = 64 << 20  # 1,000 epochs have about 2 MB
HEADER_BYTES = 256  # more than an array in a file has beside its values
REMEDY = "Delete it to train this run from its start."


class Progress(BaseModel):
    """The lines of history.jsonl and timing.jsonl so far."""

    history: list[Epoch] = []
    timing: list[Timing] = []


def state(model: Any) -> list[Any]:
    """Return all variables that decide how training continues: weights, seeds of dropout, state of the optimizer."""
    return [*model.variables, *model.optimizer.variables]


def save(run: Run, model: Any, progress: Progress) -> None:
    """Write the checkpoint, then history and timing: after a kill in between, the checkpoint is right."""
    arrays = {}
    for index, variable in enumerate(state(model)):
        arrays[_array_name(index)] = variable.numpy()
    buffer = io.BytesIO()
    np.savez(buffer, format_version=FORMAT_VERSION, progress=progress.model_dump_json(), **arrays)
    files.write(run.path / NAME, buffer.getvalue())
    _write_lines(run, progress)


def restore(run: Run, model: Any) -> Progress:
    """Assign the checkpoint's state to the model, if there is a checkpoint, and return the progress so far.

    Raises:
        UsageError: the checkpoint is damaged or of another format.
    """
    if not (run.path / NAME).exists():
        return Progress()
    progress = _read_progress(run)
    variables = state(model)
    values = _read_values(run, variables)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    _write_lines(run, progress)
    return progress


def history(run: Run) -> list[Epoch]:
    """Return the epochs in an unfinished run's checkpoint; history.jsonl may lack the last of them.

    Raises:
        UsageError: the checkpoint is damaged or of another format.
    """
    if not (run.path / NAME).exists():
        return []
    return _read_progress(run).history


def remove(run: Run) -> None:
    """Remove the checkpoint of a run that has ended."""
    (run.path / NAME).unlink(missing_ok=True)


def _read_progress(run: Run) -> Progress:
    """Return the progress in a checkpoint, whose format version is checked first."""
    path = run.path / NAME
    format_version, progress = _read_arrays(path, ["format_version", "progress"], MAX_PROGRESS_BYTES)
    try:
        check_version({"format_version": int(format_version)}, path, FORMAT_VERSION)
        return Progress.model_validate_json(str(progress))
    except (TypeError, ValueError) as error:
        raise _not_readable(path, first_line(error)) from error


def _read_values(run: Run, variables: Sequence[Any]) -> list[NDArray[Any]]:
    """Return the values of a model's variables in a checkpoint."""
    path = run.path / NAME
    max_bytes = sum(variable.numpy().nbytes + HEADER_BYTES for variable in variables)
    values = _read_arrays(path, list(map(_array_name, range(len(variables)))), max_bytes)
    for variable, value in zip(variables, values, strict=True):
        if value.shape != tuple(variable.shape):
            raise _not_readable(path, f"an array of shape {value.shape}, expected {tuple(variable.shape)}")
    return values


def _read_arrays(path: Path, names: Sequence[str], max_bytes: int) -> list[NDArray[Any]]:
    try:
        return read_npz(path, names, max_bytes)
    except UsageError as error:
        raise UsageError(f"{error}. {REMEDY}") from error


def _not_readable(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path}: not readable: {reason}. {REMEDY}")


def _array_name(index: int) -> str:
    return f"{index:04d}"


def _write_lines(run: Run, progress: Progress) -> None:
    run.write_lines("history.jsonl", progress.history)
    run.write_lines("timing.jsonl", progress.timing)
