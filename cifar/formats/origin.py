"""Where SavedModels come from: they are TensorFlow programs, and the manifest beside one may have come with it.

A SavedModel is the user's own if its digest is in the list of this project's released models, in a clone, or among
those that were exported on this machine by this user, which a file in the user's data folder remembers.
"""

import contextlib
from pathlib import Path

from cifar.formats import manifest
from cifar.system import files

PROGRAM = "saved-model"  # the format whose files are programs
RELEASED = Path(__file__).parents[2] / "exports"  # in a clone
NOTE = "a TensorFlow program that was neither released here nor exported by you: it can run any TensorFlow operation."


def remember(sha256: str) -> None:
    """Remember the digest of a program that was exported here; without that it is announced when it is run."""
    path = _exported_programs()
    with contextlib.suppress(OSError):  # such as a home that cannot be written
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            stream.write(f"{sha256}\n")


def is_own(path: Path) -> bool:
    """Whether a SavedModel was released by this project or exported by this user, by its bytes."""
    sha256 = files.sha256(path)
    if any(entry.sha256 == sha256 for entry in manifest.read_if_present(RELEASED)):
        return True
    try:
        return sha256 in _exported_programs().read_text().splitlines()
    except (OSError, ValueError):
        return False


def _exported_programs() -> Path:
    """A digest a line."""
    import platformdirs

    return Path(platformdirs.user_data_dir("cifar-bench")) / "exported-programs.txt"
