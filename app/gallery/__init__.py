"""Runs that came with the project: on Start, beside others, and in the tour."""
