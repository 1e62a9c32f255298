"""Targets of pre-training that a teacher computed once: how they are made, stored and read."""
