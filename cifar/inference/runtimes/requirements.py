"""What a runtime needs on this machine: Python and Node packages, commands, a program that is built from source.

Node packages and built programs are looked for in the current folder and in those above it, as Node does.
"""

import importlib.metadata
import importlib.util
import json
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol


class Requirement(Protocol):
    """Something that must be installed."""

    @property
    def missing(self) -> str | None:
        """What is missing and how to get it, without a full stop; None where it is there."""

    @property
    def version(self) -> str:
        """The version that is installed."""


@dataclass(frozen=True)
class PythonPackage:
    """A package that pip installs.

    Attributes:
        distribution: its name for pip.
        import_name: the module that it is imported by.
        extra: the extra of this project that installs it; None: always installed.
    """

    distribution: str
    import_name: str
    extra: str | None = None

    @property
    def missing(self) -> str | None:
        """How to install it."""
        if is_installed(self.import_name):
            return None
        wanted = f"'cifar-bench[{self.extra}]'" if self.extra else self.distribution
        return f"{self.distribution} is not installed: pip install {wanted}"

    @property
    def version(self) -> str:
        """The version that is installed."""
        return importlib.metadata.version(self.distribution)


@dataclass(frozen=True)
class NodePackage:
    """A package that npm installs.

    Attributes:
        name: its name for npm.
        tested_version: the version that was tested here.
    """

    name: str
    tested_version: str

    @property
    def folder(self) -> Path | None:
        """Where it is installed; None where it is not."""
        return find_upwards(f"node_modules/{self.name}")

    @property
    def missing(self) -> str | None:
        """How to install it."""
        if self.folder is not None:
            return None
        return f"{self.name} is not installed: npm install {self.name}@{self.tested_version}"

    @property
    def version(self) -> str:
        """The version that is installed."""
        assert self.folder is not None
        content = json.loads((self.folder / "package.json").read_text())
        return str(content["version"])


@dataclass(frozen=True)
class Command:
    """A program of the system.

    Attributes:
        title: as people call it.
        names: of its command, on one system or another.
    """

    title: str
    names: tuple[str, ...]

    @property
    def path(self) -> str | None:
        """Where it is; None where it is not."""
        for name in self.names:
            found = shutil.which(name)
            if found:
                return found
        return None

    @property
    def missing(self) -> str | None:
        """That it is not there."""
        return None if self.path else f"there is no {self.title} on this machine"

    @property
    def version(self) -> str:
        """Not known without running it."""
        return ""


@dataclass(frozen=True)
class BuiltProgram:
    """A program that `make` builds.

    Attributes:
        title: as people call it.
        parts: of its path in a clone of the project.
    """

    title: str
    parts: tuple[str, ...]

    @property
    def found(self) -> Path | None:
        """Where it is; None where it is not."""
        return find_upwards("/".join(self.parts))

    @property
    def missing(self) -> str | None:
        """How to build it."""
        if self.found is not None:
            return None
        return f"{self.title} is not built: run make in its folder, and this command from the clone that it is in"

    @property
    def version(self) -> str:
        """It has none of its own."""
        return ""


NODE = Command("Node.js", ("node",))
CHROMIUM = Command("Chromium", ("chromium", "chromium-browser"))


@cache
def is_installed(module: str) -> bool:
    """Whether a module could be imported; nothing is."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def find_upwards(name: str) -> Path | None:
    """Return a file or folder of the current folder or of the nearest above it that has it; None if none has."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / name).exists():
            return folder / name
    return None
