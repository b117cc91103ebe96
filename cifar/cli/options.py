"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from cifar.cli.list_options import name_list, number_list, one_name, one_name_settings
from cifar.data.dataset import NAMES
from cifar.formats import FORMATS
from cifar.inference.preprocessing import RANGES
from cifar.inference.runtimes import RUNTIMES
from cifar.metrics.misclassified import PICKS
from cifar.metrics.views import TEST_TIME_AUGMENTATIONS
from cifar.networks.catalog import NETWORKS, check_name
from cifar.recipes import MAX_THREADS, POLICIES

MAX_SEED = 2**32 - 1
SEVERAL = "several with commas, or repeat the option"

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]
Details = Annotated[bool, typer.Option("--details", help="Show every run, format, check and misclassified picture.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where CIFAR-10 is: the folder cifar-10-batches-py, its parent, or the archive.",
        metavar="DIR",
        show_default=False,
    ),
]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN", show_default=False)]
Networks = Annotated[
    list[str] | None,
    name_list(
        "network",
        NETWORKS,
        "--network",
        check=check_name,
        help=f"{', '.join(NETWORKS)}, or your own as module:function; {SEVERAL}. Default: those of the recipe.",
        show_default=False,
    ),
]
NetworkArgument = Annotated[
    str | None,
    typer.Argument(
        help=f"{', '.join(NETWORKS)}, or your own as module:function.",
        show_default=False,
        **one_name_settings(NETWORKS, check_name),
    ),
]
Policies = Annotated[
    list[str] | None,
    name_list(
        "augmentation policy",
        POLICIES,
        "--augment",
        help=f"{', '.join(POLICIES)}; {SEVERAL}. Default: those of the recipe.",
        show_default=False,
    ),
]
Seeds = Annotated[
    list[int],
    number_list("--seed", 0, MAX_SEED, help="One seed, several as 0,1,2, a range as 0-9, or repeat the option."),
]
Formats = Annotated[
    list[str],
    name_list(
        "format",
        FORMATS,
        "--format",
        or_all=True,
        help=f"{', '.join(FORMATS)}, or all; {SEVERAL}.",
    ),
]
Pick = Annotated[
    str,
    one_name("rule for --pick", PICKS, "--pick", help=f"Which misclassified pictures to show: {', '.join(PICKS)}."),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        min=1,
        max=MAX_THREADS,
        help="CPU threads. They are part of the recipe: another number gives other weights.",
        metavar="N",
    ),
]
InputRange = Annotated[
    str | None,
    one_name(
        "range for --input-range",
        RANGES,
        "--input-range",
        help=f"How a float input scales pixels: {', '.join(RANGES)}.",
        show_default=False,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        help="Or the mean of each channel, for pixels from 0 to 1; with --std.",
        metavar="R,G,B",
        show_default=False,
    ),
]
Std = Annotated[
    str | None,
    typer.Option("--std", help="The standard deviation of each channel.", metavar="R,G,B", show_default=False),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="The classes in the order of the file's output: ten names with commas, or a file of ten lines.",
        metavar="NAMES",
        show_default=False,
    ),
]
FileData = Annotated[
    str | None,
    one_name(
        "data set",
        NAMES,
        "--data",
        help=f"The data set of a model file: {', '.join(NAMES)}. Default: the manifest's, else cifar10.",
        show_default=False,
    ),
]
TestTimeAugmentation = Annotated[
    str | None,
    one_name(
        "test-time augmentation",
        TEST_TIME_AUGMENTATIONS,
        "--test-time-augmentation",
        help=f"Score several views of each image too: {', '.join(TEST_TIME_AUGMENTATIONS)}.",
        show_default=False,
    ),
]
Runtime = Annotated[
    str | None,
    one_name(
        "runtime",
        RUNTIMES,
        "--runtime",
        help=f"In which a model file is run: {', '.join(RUNTIMES)}. Default: its format's own.",
        show_default=False,
    ),
]
Runtimes = Annotated[
    list[str] | None,
    name_list(
        "runtime",
        RUNTIMES,
        "--runtime",
        help=f"{', '.join(RUNTIMES)}; {SEVERAL}. Default: all that are installed.",
        show_default=False,
    ),
]
RuntimeThreads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="Threads of a model file's runtime. Default: 2.", metavar="N", show_default=False
    ),
]
