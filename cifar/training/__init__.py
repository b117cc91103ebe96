"""Training: the loop, its step on each backend, checkpoints, sweeps over recipes."""
