"""Where the commands print: results on stdout, notes and progress on stderr."""

import json
from typing import Any

import typer
from rich.console import Console

from cifar.errors import printable

stderr = Console(stderr=True)
stdout = Console()


def note(text: str) -> None:
    """Print a note on stderr."""
    stderr.print(f"note: {printable(text)}", highlight=False, markup=False, soft_wrap=True)


def write_json(content: Any) -> None:
    """Print a result as JSON on stdout."""
    typer.echo(json.dumps(content, indent=2))
