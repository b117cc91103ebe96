"""Training on JAX, apart from the tests of `pytest`: `tox -e jax`."""
