"""Fetching published archives and weight files, and unpacking them without letting anything out of their folder."""
