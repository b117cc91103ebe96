"""NAME.diagnosis.json beside an int8 file: what `cifar diagnose --save` found, for the page of a report."""

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cifar.diagnosis.schemas import Diagnosis
from cifar.system import files
from cifar.system.json_files import check_version, parse, read_json

FORMAT_VERSION = 1


class Saved(BaseModel):
    """A diagnosis and the SHA-256 of the int8 file it is of."""

    model_config = ConfigDict(allow_inf_nan=False)

    sha256: str
    diagnosis: Diagnosis


def path_of(file: Path) -> Path:
    """Return where the diagnosis of an exported file is."""
    return file.with_name(f"{file.name}.diagnosis.json")


def write(file: Path, diagnosis: Diagnosis) -> Path:
    """Write the diagnosis of a file beside it; return where.

    Raises:
        cifar.errors.StorageError: it cannot be written.
    """
    content = {"format_version": FORMAT_VERSION, "sha256": files.sha256(file), "diagnosis": asdict(diagnosis)}
    path = path_of(file)
    files.write(path, json.dumps(content, indent=1) + "\n")
    return path


def read(file: Path) -> Saved | None:
    """Return the diagnosis that lies beside a file, which need not exist any more; None where there is none.

    Raises:
        UsageError: it is damaged.
    """
    path = path_of(file)
    if not path.exists():
        return None
    content = read_json(path)
    check_version(content, path, FORMAT_VERSION)
    return parse(Saved, content, path)
