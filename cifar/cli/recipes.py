"""`cifar recipes`: the recipes of this package, and the file of one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.options import Json
from cifar.cli.output import note, stdout, write_json
from cifar.errors import UsageError

if TYPE_CHECKING:
    from cifar.recipes import RecipeFile

RecipeArgument = Annotated[
    str | None, typer.Argument(help="A recipe, or your own as FILE.toml.", metavar="[NAME|FILE]", show_default=False)
]


To = Annotated[
    Path | None,
    typer.Option("--to", help="Write the recipe to a new file, to change it.", metavar="FILE", show_default=False),
]


def recipes(name: RecipeArgument = None, to: To = None, as_json: Json = False) -> None:
    """List the recipes, or show the file of one.

    The file of a recipe is a start for your own: change it, and train it with `cifar train --recipe FILE.toml`.

    Example: cifar recipes tuned --to mine.toml
    """
    from cifar.recipes import RECIPES, read

    names = list(RECIPES)
    if name:
        names = [name]
    files = [read(each) for each in names]
    if to:
        _write(files, to)
    elif as_json:
        write_json({"recipes": [_facts(file) for file in files]})
    elif name:
        typer.echo(files[0].text, nl=False)
    else:
        _show_all(files)


def _write(files: "list[RecipeFile]", to: Path) -> None:
    from cifar.system import files as disk

    if len(files) != 1:
        raise UsageError("--to writes one recipe: name it.")
    if to.exists():
        raise UsageError(f"{to}: exists already.")
    disk.write(to, files[0].text)
    note(f"Written: {to}. Train it with `cifar train --recipe {to}`.")


def _show_all(files: "list[RecipeFile]") -> None:
    from cifar.recipes import recipe
    from cifar.report.table import Table, render

    rows, notes = [], []
    for file in files:
        for network in file.networks:
            full = recipe(network, "none", file=file, profile="reference")
            rate = f"{full.schedule} {full.learning_rate:g}"
            rows.append((file.name, network, full.optimizer, rate, str(full.batch_size), str(full.epochs)))
        notes.append(f"{file.name}: {file.description}")
    columns = ("recipe<", "network<", "optimizer<", "learning rate<", "batch size>", "epochs>")
    stdout.print(render(Table("Recipes", columns, rows, notes)))


def _facts(file: "RecipeFile") -> dict[str, Any]:
    """Return what --json prints of a recipe."""
    from cifar.recipes import FIELDS, recipe

    full = {}
    for network in file.networks:
        fields = recipe(network, "none", file=file, profile="reference")
        full[network] = {name: getattr(fields, name) for name in FIELDS}
    facts: dict[str, Any] = file.model_dump(include={"name", "description", "source", "augment"})
    return {**facts, "networks": full}
