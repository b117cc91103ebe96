"""The benchmark: what is measured, by which child processes, and the tables of it.

`pytest bench/` and `cifar bench` call it. Nothing is timed in their own process, and no framework is loaded there.
"""
