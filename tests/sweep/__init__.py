"""Grids on Ray and as jobs, apart from the tests of `pytest`: `tox -e sweep`."""
