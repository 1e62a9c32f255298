"""Scores, intervals and tests from stored predictions. Nothing here imports torch."""
