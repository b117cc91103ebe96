"""This machine and its files: environment, hardware, atomic writes, JSON, child processes."""
