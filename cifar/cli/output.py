"""Where the commands print: results on stdout, notes and progress on stderr."""

import json
from typing import Any

import typer
from rich.console import Console

from cifar.errors import printable

# Paths and names are printed as they are: they may look like markup.
stderr = Console(stderr=True, markup=False, emoji=False)
stdout = Console(markup=False, emoji=False)


def note(text: str) -> None:
    """Print a note on stderr."""
    stderr.print(f"note: {printable(text)}", highlight=False, soft_wrap=True)


def write_json(content: Any) -> None:
    """Print a result as JSON on stdout."""
    typer.echo(json.dumps(content, indent=2))
