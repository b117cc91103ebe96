"""What the commands share: their options and where their words go."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cifar.errors import printable

stderr = Console(stderr=True)
stdout = Console()

Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where cifar10 is: cifar-10-batches-py/, its parent, or the archive.",
        metavar="DIR",
    ),
]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN", show_default=False)]


def note(text: str) -> None:
    """Tell the user something on stderr."""
    stderr.print(f"note: {printable(text)}", highlight=False, markup=False, soft_wrap=True)


def write_json(content: Any) -> None:
    """Print an answer as JSON."""
    typer.echo(json.dumps(content, indent=2))
