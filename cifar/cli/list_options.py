"""Options that take listed names or whole numbers, one or several.

The shell completes listed names; any other name is refused with the nearest valid one.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from cifar.errors import UsageError, one_of

MAX_NUMBERS = 1000
NUMBER_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
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


@dataclass(frozen=True)
class NumberList:
    """Whole numbers as a command line spells them: "7", "0,1,2", "0-9" or "0-4,10".

    Attributes:
        flag: the option's flag, for error messages.
        low, high: the smallest and largest valid number.
    """

    flag: str
    low: int
    high: int

    def parse(self, text: object) -> list[int]:
        """Return the numbers in a text, in its order.

        Raises:
            UsageError: the text has another form, a number is not valid, or a range has more than MAX_NUMBERS.
        """
        numbers: list[int] = []
        for part in str(text).split(","):
            match = NUMBER_RANGE.fullmatch(part)
            if match is None:
                raise UsageError(f"{self.flag} {text}: write one number as 7, several as 1,2,3 or 1-9.")
            first = int(match[1])
            last = int(match[2] or first)
            if min(first, last) < self.low or max(first, last) > self.high:
                raise UsageError(f"{self.flag} {text}: a number from {self.low} to {self.high} is needed.")
            if first > last:
                raise UsageError(f"{self.flag} {text}: a range begins with its smaller number, as in {last}-{first}.")
            self._check_count(last - first + 1)
            numbers.extend(range(first, last + 1))
        return numbers

    def merge(self, values: list[list[int]] | None) -> list[int] | None:
        """Return the numbers of all occurrences of the option, each once.

        Raises:
            UsageError: there are more than MAX_NUMBERS.
        """
        if values is None:
            return None
        numbers: dict[int, None] = {}
        for value in values:
            numbers.update(dict.fromkeys(value))
        self._check_count(len(numbers))
        return list(numbers)

    def _check_count(self, count: int) -> None:
        if count > MAX_NUMBERS:
            raise UsageError(f"{self.flag} has {count:,} numbers; one command takes at most {MAX_NUMBERS:,}.")


def number_list(flag: str, low: int, high: int, **settings: Any) -> Any:
    """Return a typer option that takes several whole numbers: with commas, as ranges, repeated; each counts once.

    Args:
        flag: such as "--seed".
        low: the smallest valid number.
        high: the largest valid number.
        settings: further arguments of typer.Option.
    """
    numbers = NumberList(flag, low, high)
    return typer.Option(flag, parser=numbers.parse, callback=numbers.merge, metavar="N,...", **settings)


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
