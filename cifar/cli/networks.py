"""`cifar networks`: the reference networks, and the layers of one."""

from typing import Annotated, Any

import typer

from cifar.cli.options import Json
from cifar.cli.output import stderr, stdout, write_json


def networks(
    name: Annotated[
        str | None,
        typer.Argument(help="first, second, third or module:function.", metavar="NAME", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the reference networks, or the layers of one with output shapes and parameters, as Keras prints them.

    Example: cifar networks first
    """
    from cifar import networks as rooms
    from cifar.system import environment

    names = [rooms.check_name(name)] if name else list(rooms.NETWORKS)
    with stderr.status("Starting TensorFlow"):
        environment.configure(threads=1)
        models = {each: rooms.build(each) for each in names}
    if as_json:
        write_json({"networks": [_facts(each, model) for each, model in models.items()]})
    elif name:
        models[name].summary(line_length=76, print_fn=typer.echo)
        if name in rooms.NETWORKS:
            typer.echo(f"Where it comes from: {_origin(name)}.")
    else:
        _list(models)


def _list(models: dict[str, Any]) -> None:
    from cifar import networks as rooms
    from cifar.recipes import TRAINING
    from cifar.report.table import Table, render

    rows = [
        (
            name,
            ", ".join(map(str, rooms.NETWORKS[name].filters)),
            f"{model.count_params():,}",
            str(TRAINING[name].batch_size),
            str(TRAINING[name].epochs),
        )
        for name, model in models.items()
    ]
    columns = ("network", "filters", "parameters>", "batch>", "epochs>")
    stdout.print(render(Table("Reference networks", columns, rows)))
    for name in models:
        stdout.print(f"{name}: {_origin(name)}.", highlight=False)


def _origin(name: str) -> str:
    from cifar import networks as rooms

    return rooms.NETWORKS[name].origin


def _facts(name: str, model: Any) -> dict[str, Any]:
    from cifar.recipes import TRAINING

    training = {**TRAINING[name].model_dump(), "origin": _origin(name)} if name in TRAINING else {}
    layers = [
        {
            "name": layer.name,
            "type": type(layer).__name__,
            "output_shape": list(layer.output.shape),
            "parameters": int(layer.count_params()),
        }
        for layer in model.layers
    ]
    return {"network": name, "parameters": int(model.count_params()), **training, "layers": layers}
