"""The options of `cifar train` that say what is trained: a recipe, and single fields of it."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli.list_options import one_name
from cifar.errors import UsageError
from cifar.recipes import MAX_EPOCHS, PROFILES, RECIPES

if TYPE_CHECKING:
    from cifar.recipes import Recipe

METAVARS = {int: "N", float: "X", str: "NAME"}
FIELD_OPTIONS: dict[str, tuple[type, dict[str, Any]]] = {
    "epochs": (int, {"min": 1, "max": MAX_EPOCHS, "help": "How often every training image is seen."}),
    "batch_size": (int, {"min": 1, "help": "Images per update."}),
    "optimizer": (str, {"help": "rmsprop, sgd (Nesterov momentum), adamw, muon."}),
    "learning_rate": (float, {"help": "At its largest."}),
    "momentum": (float, {"help": "Of sgd, 0 to 1."}),
    "weight_decay": (float, {"help": "Of sgd, adamw and muon, 0 to 1."}),
    "schedule": (str, {"help": "After the warm-up: constant, linear, cosine."}),
    "warmup": (float, {"help": "Share of the steps in which the learning rate rises, 0 to 1."}),
    "label_smoothing": (float, {"help": "The part of the targets that all classes share, 0 to 1."}),
    "precision": (str, {"help": "float32, or bfloat16 (faster on processors with units for it)."}),
    "hold_out": (int, {"min": 0, "help": "So many training images are scored instead of the test images."}),
}
"""Type and further arguments of typer.Option by the name of the field; all others are set in a recipe file."""

RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        autocompletion=lambda incomplete: [name for name in RECIPES if name.startswith(incomplete)],
        help=f"{', '.join(RECIPES)}, or your own as FILE.toml; see `cifar recipes`. Default: quick.",
        metavar="NAME|FILE",
        show_default=False,
    ),
]
ProfileName = Annotated[
    str | None,
    one_name(
        "profile",
        PROFILES,
        "--profile",
        help="quick: the recipe of that name. reference: the published recipe. smoke: 5 epochs of 10,000 images.",
        show_default=False,
    ),
]


def grid(
    recipe: str | None,
    profile: str | None,
    networks: Sequence[str] | None,
    policies: Sequence[str] | None,
    seeds: Sequence[int],
    **settings: Any,
) -> "list[Recipe]":
    """Return the recipes that the options of a command name; `settings` as of `recipes.recipe`.

    Raises:
        UsageError: as of `recipes.recipe`; or both a recipe and a profile are given.
    """
    from cifar import recipes

    if recipe and profile:
        raise UsageError("--recipe trains a whole recipe, and a profile is one or a part of one: give one of them.")
    profile = profile or ("reference" if recipe else "quick")
    file = recipes.read(recipe or recipes.PROFILES[profile].recipe)
    return recipes.grid(
        networks or file.networks, policies or file.augment, seeds, file=file, profile=profile, **settings
    )


def with_field_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each of FIELD_OPTIONS; those in use reach it as the dict `fields`."""

    @wraps(command)
    def wrapped(**arguments: Any) -> None:
        fields = {}
        for name in FIELD_OPTIONS:
            value = arguments.pop(name)
            if value is not None:
                fields[name] = value
        command(**arguments, fields=fields)

    signature = inspect.signature(command)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "fields"]
    for name, (kind, settings) in FIELD_OPTIONS.items():
        flag = "--" + name.replace("_", "-")
        option = typer.Option(flag, metavar=METAVARS[kind], show_default=False, **settings)
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapped
