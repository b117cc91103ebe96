"""Faults on purpose: `tox -e faults`, or `-- --long` for ten times as many. Apart from the tests of `pytest`."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

Count = Callable[[int, int], int]
Tally = Callable[[str], None]
PROPERTY = "tally"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="The long form: about ten times as many faults.")


@pytest.fixture(scope="session")
def count(request: pytest.FixtureRequest) -> Count:
    """How many faults of a kind: count(short form's, long form's)."""
    return lambda short, long: long if request.config.getoption("long") else short


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Counts one more of something, in words; the last lines tell how many there were."""
    counts: dict[str, int] = {}  # a plain dict: it travels between processes
    record_property(PROPERTY, counts)

    def one_more(words: str) -> None:
        counts[words] = counts.get(words, 0) + 1

    return one_more


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The tallies of the tests that passed, summed by words."""
    total: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        for name, counts in report.user_properties:
            if name == PROPERTY:
                total.update(counts)
    terminalreporter.section("tallies")
    for words, number in total.items():
        terminalreporter.write_line(f"{number:7,}  {words}")
