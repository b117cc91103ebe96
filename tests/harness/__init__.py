"""Whole sessions of the benchmark harness, apart from the tests of `pytest`: `tox -e harness`."""
