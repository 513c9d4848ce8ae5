"""Faults on demand: what the road does to a computer, done on purpose and in time."""
