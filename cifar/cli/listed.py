"""Options that take listed names or seeds: how a command line spells them, completes them and refuses others.

The shell completes listed names; any other name is refused with the nearest valid one.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import typer

from cifar.errors import UsageError, one_of

MAX_SEED = 2**32 - 1
MAX_SEEDS = 1000
SEED_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
ALL = "all"


def one_name(kind: str, names: Collection[str], *flags: str, **settings: Any) -> Any:
    """Return a typer option that takes one of `names`.

    Args:
        kind: what is named, for the error message: "network".
        names: the valid names, in the order in which they are listed.
        flags: such as "--data"; none takes the parameter's own name.
        settings: further arguments of typer.Option.
    """

    def check(name: str) -> str:
        return one_of(kind, name, names)

    settings.update(one_name_settings(names, check))
    return typer.Option(*flags, **settings)


def name_list(
    kind: str,
    names: Collection[str],
    *flags: str,
    check: Callable[[str], str] | None = None,
    or_all: bool = False,
    **settings: Any,
) -> Any:
    """Return a typer option that takes several names: separated by commas, repeated, or both; each counts once.

    Args:
        kind: what is named, for the error message: "network".
        names: the valid names, in the order in which they are listed.
        flags: such as "--format"; none takes the parameter's own name.
        check: returns a valid name and raises UsageError for any other; the default accepts `names` only.
        or_all: whether "all" stands for all names.
        settings: further arguments of typer.Option.
    """
    valid = [*names]
    if or_all:
        valid.append(ALL)

    def check_listed(name: str) -> str:
        return one_of(kind, name, valid)

    def read(values: list[str] | None) -> list[str] | None:
        if not values:
            return values
        chosen = split_names(values, check or check_listed)
        if or_all and ALL in chosen:
            return [*names]
        return chosen

    def complete(incomplete: str) -> list[str]:
        return _complete_last(incomplete, valid)

    return typer.Option(*flags, callback=read, autocompletion=complete, metavar="NAME,...", **settings)


def split_names(values: Sequence[str], check: Callable[[str], str]) -> list[str]:
    """Return the names in `values`, each of which holds one or several with commas, without duplicates.

    Raises:
        UsageError: `check` refuses a name.
    """
    names = ",".join(values).split(",")
    return list(dict.fromkeys(map(check, names)))


def parse_seeds(text: object) -> list[int]:
    """Return the seeds in a text such as "7", "0,1,2", "0-9" or "0-4,10".

    Raises:
        UsageError: the text has another form, a seed is above MAX_SEED, or a range has more than MAX_SEEDS.
    """
    seeds: list[int] = []
    for part in str(text).split(","):
        match = SEED_RANGE.fullmatch(part)
        if match is None:
            raise UsageError(f"--seed {text}: write a seed as 7, several as 0,1,2 or 0-9.")
        first = int(match[1])
        last = int(match[2] or first)
        if max(first, last) > MAX_SEED:
            raise UsageError(f"--seed {text}: a seed is a whole number from 0 to {MAX_SEED}.")
        if first > last:
            raise UsageError(f"--seed {text}: a range begins with its smaller seed, as in {last}-{first}.")
        _check_number_of_seeds(last - first + 1)
        seeds.extend(range(first, last + 1))
    return seeds


def merge_seeds(values: list[list[int]] | None) -> list[int] | None:
    """Return the seeds of all --seed options, each once.

    Raises:
        UsageError: there are more than MAX_SEEDS.
    """
    if values is None:
        return None
    seeds: dict[int, None] = {}
    for value in values:
        seeds.update(dict.fromkeys(value))
    _check_number_of_seeds(len(seeds))
    return list(seeds)


def _check_number_of_seeds(count: int) -> None:
    if count > MAX_SEEDS:
        raise UsageError(f"--seed names {count:,} seeds; one command takes at most {MAX_SEEDS:,}.")


def one_name_settings(names: Collection[str], check: Callable[[str], str]) -> dict[str, Any]:
    """Return the arguments of typer.Option or typer.Argument for one name that `check` accepts."""

    def check_given(value: str | None) -> str | None:
        if value is None:
            return None
        return check(value)

    def complete(incomplete: str) -> list[str]:
        return _starting_with(incomplete, names)

    return {"callback": check_given, "autocompletion": complete, "metavar": "NAME"}


def _starting_with(start: str, names: Collection[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]


def _complete_last(incomplete: str, names: Collection[str]) -> list[str]:
    """Complete the last name of a comma list; names that the list already holds are not offered."""
    complete, comma, last = incomplete.rpartition(",")
    remaining = [name for name in names if name not in complete.split(",")]
    return [complete + comma + name for name in _starting_with(last, remaining)]
