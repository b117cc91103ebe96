"""`cifar networks`: the reference networks, and the layers of one."""

from typing import Any

import typer

from cifar.cli.options import Json, NetworkArgument
from cifar.cli.output import stderr, stdout, write_json


def networks(name: NetworkArgument = None, as_json: Json = False) -> None:
    """List the reference networks, or the layers of one network.

    Of one network it shows every layer with its output shape and parameters, as Keras prints them.

    Example: cifar networks first
    """
    from cifar.networks import NETWORKS, build
    from cifar.system import environment

    names = list(NETWORKS)
    if name:
        names = [name]
    with stderr.status("Starting TensorFlow"):
        environment.configure(threads=1)
        models = {network: build(network) for network in names}
    if as_json:
        facts = [_facts(network, model) for network, model in models.items()]
        write_json({"networks": facts})
    elif name:
        _show_layers(name, models[name])
    else:
        _show_all(models)


def _show_layers(name: str, model: Any) -> None:
    from cifar.networks import NETWORKS

    model.summary(line_length=76, print_fn=typer.echo)
    if name in NETWORKS:
        typer.echo(f"{NETWORKS[name].label}: {NETWORKS[name].origin}.")


def _show_all(models: dict[str, Any]) -> None:
    from cifar.networks import NETWORKS, PUBLISHED
    from cifar.recipes import recipe
    from cifar.report.table import Table, render

    rows, origins = [], []
    for name, model in models.items():
        label, batch_size, epochs = NETWORKS[name].label, "-", "-"
        if name in PUBLISHED:
            published = recipe(name, "none", profile="reference")
            batch_size, epochs = str(published.batch_size), str(published.epochs)
        rows.append((label, f"{model.count_params():,}", batch_size, epochs))
        origins.append(f"{label}: {NETWORKS[name].origin}.")
    columns = ("network<", "parameters>", "batch size>", "epochs>")
    stdout.print(render(Table("Reference networks", columns, rows)))
    for origin in origins:
        stdout.print(origin, highlight=False)


def _facts(name: str, model: Any) -> dict[str, Any]:
    """Return what --json prints of a network."""
    from cifar.networks import NETWORKS, PUBLISHED
    from cifar.recipes import recipe

    facts: dict[str, Any] = {"network": name, "parameters": int(model.count_params())}
    if name in NETWORKS:
        facts |= {"label": NETWORKS[name].label, "origin": NETWORKS[name].origin}
    if name in PUBLISHED:
        published = recipe(name, "none", profile="reference")
        facts |= {"batch_size": published.batch_size, "epochs": published.epochs}
    layers = []
    for layer in model.layers:
        layers.append(
            {
                "name": layer.name,
                "type": type(layer).__name__,
                "output_shape": list(layer.output.shape),
                "parameters": int(layer.count_params()),
            }
        )
    return {**facts, "layers": layers}
