"""Training: the loop, its step, its checkpoints, its backends, and lists of recipes."""
