"""Runtimes that an extra installs, apart from the tests of `pytest`: `tox -e runtimes`."""
