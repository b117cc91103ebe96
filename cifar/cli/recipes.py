"""`cifar recipes`: the recipes of this package, and the file of one."""

from typing import Annotated, Any

import typer

from cifar.cli.options import Json
from cifar.cli.output import stdout, write_json

RecipeArgument = Annotated[
    str | None, typer.Argument(help="A recipe, or your own as FILE.toml.", metavar="[NAME|FILE]", show_default=False)
]


def recipes(name: RecipeArgument = None, as_json: Json = False) -> None:
    """List the recipes, or show the file of one.

    The file of a recipe is a start for your own: change it, and train it with `cifar train --recipe FILE.toml`.

    Example: cifar recipes tuned > mine.toml
    """
    from cifar.recipes import RECIPES, read

    names = list(RECIPES)
    if name:
        names = [name]
    files = [read(each) for each in names]
    if as_json:
        write_json({"recipes": [_facts(file) for file in files]})
    elif name:
        typer.echo(files[0].text, nl=False)
    else:
        _show_all(files)


def _show_all(files: list[Any]) -> None:
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


def _facts(file: Any) -> dict[str, Any]:
    """Return what --json prints of a recipe."""
    from cifar.recipes import recipe

    full = {}
    for network in file.networks:
        chosen = {"network", "policy", "seed", "dataset", "train_images", "threads", "backend", "recipe", "hold_out"}
        full[network] = recipe(network, "none", file=file, profile="reference").model_dump(exclude=chosen)
    facts: dict[str, Any] = file.model_dump(include={"name", "description", "source", "augment"})
    return {**facts, "networks": full}
