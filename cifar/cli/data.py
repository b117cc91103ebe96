"""`cifar data`: find, download and check CIFAR-10."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cifar.cli.options import DataDir, Json
from cifar.cli.output import note, stdout, write_json
from cifar.errors import UsageError

app = typer.Typer(help="Find, download and check CIFAR-10.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def info(as_json: Json = False) -> None:
    """Show where CIFAR-10 is looked for and what is there.

    Example: cifar data info
    """
    from cifar.data import dataset, download
    from cifar.report.table import Table, render

    copies = []
    if os.environ.get("CIFAR10_DIR"):
        path = Path(os.environ["CIFAR10_DIR"])
        copies.append({"place": "CIFAR10_DIR", "path": str(path), "exists": path.exists()})
    for path in dataset.cached_copies():
        copies.append({"place": "cache", "path": str(path), "exists": True})
    facts = {
        "copies": copies,
        "cache": str(download.cache()),
        "published_url": download.PUBLISHED_URL,
        "own_url": os.environ.get("CIFAR10_URL"),
    }
    if as_json:
        write_json(facts)
        return
    rows = []
    for copy in copies:
        status = "found" if copy["exists"] else "missing"
        rows.append((str(copy["place"]), status, str(copy["path"])))
    stdout.print(render(Table("Copies of CIFAR-10", ("source", "status", "path"), rows or [("-", "none", "-")])))
    note(f"Downloads go to {download.cache()}, from {download.PUBLISHED_URL}, then from CIFAR10_URL if that is set.")


@app.command()
def fetch(as_json: Json = False) -> None:
    """Download CIFAR-10 into the cache.

    The file is kept only if its SHA-256 is the published one.

    Example: cifar data fetch
    """
    from cifar.data import download

    path = download.fetch(note)
    if as_json:
        write_json({"path": str(path)})
    else:
        typer.echo(path)


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
        raise UsageError(f"Two places are named, {place} and --data-dir {data_dir}: name the one to check.")
    facts = dataset.load_cifar10(place or data_dir, note, download=False).facts()
    if as_json:
        write_json(facts)
        return
    rows = [(name.replace("_", " "), str(value)) for name, value in facts.items()]
    stdout.print(render(Table("CIFAR-10 is complete", ("fact", "value"), rows)))
