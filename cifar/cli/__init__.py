"""The `cifar` command: each command parses, calls one function and prints what came back.

Answers go to stdout, everything else to stderr. Nothing heavy is imported before a command needs it.
"""

import errno
import sys
from pathlib import Path

import typer

from cifar import __version__
from cifar.cli import compare, data, evaluate, export, networks, report, runs, train, verify
from cifar.cli.output import stderr
from cifar.errors import CifarError, StorageError, UsageError, printable

app = typer.Typer(
    name="cifar",
    help="Train small CNNs on CIFAR-10 reproducibly, score them, export them, report.",
    epilog="Exit codes: 0 done, 1 a result is bad, 2 bad request, 3 data, 4 cannot write, 5 held by another process.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command(cls=export.Command)(export.export)
app.command()(report.report)
app.command()(runs.runs)
app.command()(verify.verify)
app.command()(compare.compare)
app.command()(networks.networks)
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Show the version.", is_eager=True),
) -> None:
    """Train small CNNs on CIFAR-10 reproducibly, score them, export them, report."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; an error of ours is one sentence on stderr and its exit code."""
    try:
        app()
    except CifarError as error:
        _fail(error)
    except OSError as error:  # the temporary folder is full, say; or what was named cannot be looked at
        cannot_write = error.filename is None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
        path = Path(error.filename or "a file")
        _fail(StorageError.of(path, error) if cannot_write else UsageError(f"{path}: {error.strerror}"))


def _fail(error: CifarError) -> None:
    stderr.print(f"error: {printable(str(error))}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(error.exit_code)
