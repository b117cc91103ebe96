"""`python -m cifar` is the `cifar` command."""

from cifar.cli import main

main()
