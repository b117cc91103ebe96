"""Run folders: what is on disk of a training."""
