"""Pages in a real browser, apart from the tests of `pytest`: `tox -e browser`."""
