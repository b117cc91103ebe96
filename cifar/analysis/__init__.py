"""Finished runs as results: scores, augmentation gain, claims, averages over seeds."""
