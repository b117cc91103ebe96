"""`cifar data`: where CIFAR-10 is, fetching it, checking it."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cifar.cli.options import DataDir, Json
from cifar.cli.output import note, stdout, write_json
from cifar.errors import UsageError

app = typer.Typer(help="Find, fetch and check CIFAR-10.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def info(as_json: Json = False) -> None:
    """Show where CIFAR-10 is looked for and what is there.

    Example: cifar data info
    """
    from cifar.data import dataset, download
    from cifar.report.table import Table, render

    named = os.environ.get("CIFAR10_DIR")
    places = [("CIFAR10_DIR", Path(named))] if named else []
    places += [("cache", path) for path in dataset.cached_copies()]
    facts = {
        "copies": [{"place": place, "path": str(path), "exists": path.exists()} for place, path in places],
        "cache": str(download.cache()),
        "published_url": download.PUBLISHED_URL,
        "own_url": os.environ.get("CIFAR10_URL"),
    }
    if as_json:
        write_json(facts)
        return
    rows = [(place, "there" if path.exists() else "missing", str(path)) for place, path in places]
    stdout.print(render(Table("Copies of CIFAR-10", ("named by", "is", "path"), rows or [("-", "none", "-")])))
    note(f"Fetched to {download.cache()} from {download.PUBLISHED_URL}, then from CIFAR10_URL if that is set.")


@app.command()
def fetch(as_json: Json = False) -> None:
    """Download CIFAR-10 into the cache.

    Nothing is kept unless its SHA-256 is the published one.

    Example: cifar data fetch
    """
    from cifar.data import download

    path = download.fetch(note)
    answer: dict[str, Any] = {"path": str(path)}
    write_json(answer) if as_json else typer.echo(path)


@app.command()
def verify(
    place: Annotated[
        Path | None,
        typer.Argument(help="A folder or archive; else where `cifar train` would look.", metavar="DIR"),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Check every image and label of a copy of CIFAR-10.

    Shapes, counts and labels are checked, and the digests are compared with the published ones.

    Example: cifar data verify data
    """
    from cifar.data import dataset
    from cifar.report.table import Table, render

    if place and data_dir:
        raise UsageError(f"Two places are named, {place} and --data-dir {data_dir}: name the one to be checked.")
    loaded = dataset.load_cifar10(place or data_dir, note, download=False)
    facts = loaded.facts()
    if as_json:
        write_json(facts)
        return
    rows = [(key.replace("_", " "), f"{value}") for key, value in facts.items()]
    stdout.print(render(Table("CIFAR-10 is whole", ("fact", "value"), rows)))
