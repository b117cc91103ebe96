"""What the tests of grids share."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _tensorflow() -> None:
    """Not in this process: here the processes that are started train."""
