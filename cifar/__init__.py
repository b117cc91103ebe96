"""cifar-bench: small CNNs on CIFAR-10, trained reproducibly, exported and measured."""

__version__ = "0.2.0"
