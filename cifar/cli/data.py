"""`cifar data`: find, download and check CIFAR-10."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cifar.cli.options import DataDir, Json
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import UsageError

app = typer.Typer(help="Find, download and check CIFAR-10.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def info(as_json: Json = False) -> None:
    """Show where CIFAR-10 is looked for and what is there.

    Example: cifar data info
    """
    from cifar.data import download, sources
    from cifar.report.table import Table, render

    copies = _copies()
    facts = {
        "copies": copies,
        "cache": str(download.cache()),
        "published_url": sources.PUBLISHED_URL,
        "own_url": os.environ.get("CIFAR10_URL"),
        "sources": sources.addresses(),
    }
    if as_json:
        write_json(facts)
        return
    rows = []
    for copy in copies:
        rows.append((copy["place"], copy["status"], copy["path"]))
    stdout.print(render(Table("Copies of CIFAR-10", ("source", "status", "path"), rows or [("-", "none", "-")])))
    note(f"Downloads go to {download.cache()}. Their sources, and which of them respond: cifar data fetch --list")


def _copies() -> list[dict[str, Any]]:
    """The copies on this machine: place, path, exists, status."""
    from cifar.data import download, hugging_face
    from cifar.data.copies import cached_copies

    copies = []
    if os.environ.get("CIFAR10_DIR"):
        path = Path(os.environ["CIFAR10_DIR"])
        status = "found" if path.exists() else "missing"
        copies.append({"place": "CIFAR10_DIR", "path": str(path), "exists": path.exists(), "status": status})
    for path in cached_copies():
        copies.append({"place": "cache", "path": str(path), "exists": True, "status": "found"})
    for path in hugging_face.cached_copies():
        status = "found; cannot be checked, so name it with --data-dir"
        if not hugging_face.is_readable():
            status += " and install pyarrow"
        copies.append({"place": "Hugging Face", "path": str(path), "exists": True, "status": status})
    partial = download.partial_file()
    if partial.exists():
        status = f"interrupted at {partial.stat().st_size / 1e6:.1f} MB"
        copies.append({"place": "download", "path": str(partial), "exists": True, "status": status})
    return copies


@app.command()
def fetch(
    list_sources: Annotated[
        bool, typer.Option("--list", help="Show the sources and which of them respond; download nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Download CIFAR-10 into the cache.

    The sources are tried in turn: CIFAR10_URL, the mirrors, the published address.
    The file is kept only if its SHA-256 is the published one. An interrupted download continues where it stopped.

    Example: cifar data fetch
    """
    from cifar.data import download

    if list_sources:
        _list_sources(as_json)
        return
    path = download.fetch(note)
    if as_json:
        write_json({"path": str(path)})
    else:
        typer.echo(path)


def _list_sources(as_json: bool) -> None:
    from cifar.data import sources
    from cifar.report.table import Table, render

    with stderr.status("Asking the sources"):
        probes = sources.probe_all(sources.addresses())
    if as_json:
        write_json({"sources": list(map(asdict, probes))})
        return
    rows = []
    for probe in probes:
        status = "responds" if probe.responds else "fails"
        rows.append((sources.host(probe.url), status, probe.message))
    title = "Sources of CIFAR-10, in the order in which they are tried"
    stdout.print(render(Table(title, ("server", "status", ""), rows)))


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
