"""The measuring: what is measured, in which processes, and the tables of it. bench/ calls it, and `cifar bench`."""
