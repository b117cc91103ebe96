"""The checkpoint of an unfinished run: everything that decides how its training continues, in one file."""

import io
from typing import Any

import numpy as np
from pydantic import BaseModel

from cifar.errors import UsageError, first_line
from cifar.runs.run import Run
from cifar.runs.schemas import FORMAT_VERSION, Epoch, Timing
from cifar.system import files
from cifar.system.json_files import check_version

NAME = "checkpoint.npz"


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
    variables = state(model)
    values, progress = _read(run, len(variables))
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
    _, progress = _read(run, variables=0)
    return progress.history


def remove(run: Run) -> None:
    """Remove the checkpoint of a run that has ended."""
    (run.path / NAME).unlink(missing_ok=True)


def _read(run: Run, variables: int) -> tuple[list[Any], Progress]:
    """Return the values of the first variables and the progress in a checkpoint."""
    path = run.path / NAME
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            check_version({"format_version": int(arrays["format_version"])}, path, FORMAT_VERSION)
            progress = Progress.model_validate_json(str(arrays["progress"]))
            values = [arrays[_array_name(index)] for index in range(variables)]
    except UsageError:
        raise
    except Exception as error:  # a damaged zip raises many kinds
        raise UsageError(
            f"{path}: not readable ({first_line(error)}). Delete it to train this run from its start."
        ) from error
    return values, progress


def _array_name(index: int) -> str:
    return f"{index:04d}"


def _write_lines(run: Run, progress: Progress) -> None:
    run.write_lines("history.jsonl", progress.history)
    run.write_lines("timing.jsonl", progress.timing)
