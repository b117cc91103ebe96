"""Recipes by name or file: TOML that says what is trained. Those of this package lie beside this module."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cifar.errors import UsageError, one_of, printable
from cifar.recipes.schema import POLICIES, Recipe

MAX_BYTES = 64 << 10
NOT_IN_A_FILE = ("network", "policy", "seed", "dataset", "train_images", "threads", "backend", "recipe", "hold_out")
"""Fields of a Recipe that are chosen when it is trained."""
FIELDS = tuple(name for name in Recipe.model_fields if name not in NOT_IN_A_FILE)


class RecipeFile(BaseModel):
    """A recipe file.

    Attributes:
        name: of the recipe: the file's, without `.toml`.
        description: a sentence.
        source: where its figures come from.
        networks: those it is meant for; any other can be named.
        augment: the policies that are trained if none is asked for.
        fields: of Recipe, by name.
        network: fields for one network, by the network's name.
        text: of the whole file.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    format_version: Literal[1] = 1
    description: str = Field("", max_length=1000)
    source: str = Field("", max_length=1000)
    networks: list[str] = Field(min_length=1)
    augment: list[str] = ["none", "shift-flip"]
    fields: dict[str, Any]
    network: dict[str, dict[str, Any]] = {}
    text: str

    def fields_of(self, network: str) -> dict[str, Any]:
        """Return the fields of Recipe that the file sets for a network."""
        return {**self.fields, **self.network.get(network, {})}


def _named() -> dict[str, Path]:
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"), key=lambda path: path.stem)}


RECIPES = _named()
"""The recipes of this package: file by name."""
HEAD = ("format_version", "description", "source", "networks", "augment", "network")


def read(name: str) -> RecipeFile:
    """Read a recipe of this package, or one of the user's own if the name ends in `.toml`.

    Raises:
        UsageError: there is no such recipe, or the file is not one.
    """
    if is_file(name):
        return read_file(Path(name))
    return read_file(RECIPES[one_of("recipe", name, RECIPES, also=", or your own as FILE.toml")])


def is_file(name: str) -> bool:
    """Whether the name of a recipe is that of a file of the user's own."""
    return name.endswith(".toml")


def read_file(path: Path) -> RecipeFile:
    """Read a recipe file.

    Raises:
        UsageError: it cannot be read, is no TOML, or has a field or value that is not valid.
    """
    text = _read_text(path)
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {printable(str(error))}") from error
    head = {name: content.pop(name) for name in HEAD if name in content}
    try:
        file = RecipeFile(name=path.stem, fields=content, text=text, **head)
    except ValidationError as error:
        raise UsageError(f"{path}: {_sentence(error)}") from error
    for table in (file.fields, *file.network.values()):
        for field in table:
            _check_field(field, path)
    for policy in file.augment:
        one_of(f"augmentation policy ({path})", policy, POLICIES)
    for network in (*file.networks, *file.network):
        make(file, path, network=network, policy=POLICIES["none"])
    return file


def make(file: RecipeFile, path: Path | None = None, **chosen: Any) -> Recipe:
    """Return the Recipe of a file.

    Args:
        file: the recipe file.
        path: where it stands, for errors.
        chosen: fields of Recipe that are not in the file, or take the place of the file's.

    Raises:
        UsageError: a value is not valid, or contradicts another one.
    """
    fields = {**file.fields_of(chosen["network"]), "recipe": file.name, **chosen}
    try:
        return Recipe(**fields)
    except ValidationError as error:
        raise UsageError(f"{path or file.name}: {_sentence(error)}") from error


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: too large for a recipe: at most {MAX_BYTES >> 10} kB.")
        return path.read_bytes().decode()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8.") from error


def _check_field(field: str, path: Path) -> None:
    """Raise UsageError unless a recipe file may set a field."""
    if field in NOT_IN_A_FILE:
        raise UsageError(f"{path}: '{field}' is chosen with an option of `cifar train`, not in a recipe file.")
    one_of(f"field in {path}:", field, (*FIELDS, *HEAD))


def _sentence(error: ValidationError) -> str:
    """Return a sentence about the first thing that is not valid."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    if not field:
        return printable(f"{message}.")
    value = printable(repr(problem["input"]), 40)
    return printable(f"{field} = {value}: {message[0].lower()}{message[1:]}.")
