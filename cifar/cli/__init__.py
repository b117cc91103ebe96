"""The `cifar` command: each command parses its options, calls one function and prints the result.

Results go to stdout, everything else to stderr. Nothing heavy is imported before a command needs it.
"""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import typer

from cifar import __version__
from cifar.cli import (
    bench,
    compare,
    data,
    diagnose,
    evaluate,
    export,
    networks,
    parity,
    predict,
    recipes,
    report,
    runs,
    sweep,
    train,
    verify,
)
from cifar.cli.output import stderr
from cifar.errors import CifarError, StorageError, UsageError, printable

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

app = typer.Typer(
    name="cifar",
    help="Train small CNNs on CIFAR-10 reproducibly; evaluate, export and benchmark them.",
    epilog="Exit codes: 0 success, 1 a bad result, 2 a wrong request, 3 data missing or damaged, 4 a file cannot be "
    "written, 5 a run is locked by another process, 6 results of different environments, which need not be equal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which a user meets them.
app.command()(train.train)
app.command()(report.report)
app.command()(runs.runs)
app.command()(evaluate.evaluate)
app.command()(predict.predict)
app.command()(export.export)
app.command()(parity.parity)
app.command()(diagnose.diagnose)
app.command()(bench.bench)
app.command()(compare.compare)
app.command()(verify.verify)
app.command()(sweep.sweep)
app.command()(recipes.recipes)
app.command()(networks.networks)
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
) -> None:
    """Train small CNNs on CIFAR-10 reproducibly; evaluate, export and benchmark them."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit; a CifarError is printed as one sentence on stderr.

    Args:
        arguments: those after `cifar`; None takes them from sys.argv.

    Raises:
        SystemExit: always, with the exit code.
    """
    try:
        app(arguments, prog_name="cifar")
    except CifarError as error:
        _fail(error)
    except OSError as error:
        _fail(_from_os_error(error))
    sys.exit(0)


def _from_os_error(error: OSError) -> CifarError:
    """Return the error to show for one of the operating system: a file that cannot be written, or a wrong path."""
    if error.filename is None:
        return StorageError.of(Path("a file"), error)
    path = Path(error.filename)
    if error.errno in DISK_ERRORS:
        return StorageError.of(path, error)
    return UsageError(f"{path}: {error.strerror}")


def _fail(error: CifarError) -> NoReturn:
    stderr.print(f"error: {printable(str(error))}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(error.exit_code)
