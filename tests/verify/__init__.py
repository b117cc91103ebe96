"""`cifar verify` and the quality gate, apart from the tests of `pytest`: `tox -e verify`."""
