"""Finished runs: scores, averages over seeds, augmentation gain, claims."""
