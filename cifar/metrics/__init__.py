"""Scores of predictions, and the statistics of scores and times."""
