"""Faults on purpose, apart from the tests of `pytest`: `tox -e faults`.

`-- --long` has ten times as many; `-- --smoke` is what runs before every change: a fifth, without the slow tests.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

Count = Callable[[int, int], int]
Tally = Callable[[str], None]
PROPERTY = "tally"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="The long form: about ten times as many faults.")
    parser.addoption("--smoke", action="store_true", help="A form of two minutes: a fifth, without the slow tests.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out of the smoke form."""
    if config.getoption("smoke"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def count(request: pytest.FixtureRequest) -> Count:
    """How many faults of a kind: count(short form's, long form's)."""
    if request.config.getoption("long"):
        return lambda _, long: long
    if request.config.getoption("smoke"):
        return lambda short, _: -(-short // 5)
    return lambda short, _: short


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
