"""Prune, then quantize: the sequence that a joint method has to beat, with the same units and the same epochs."""

from compression.methods.sequential.method import METHOD
from compression.methods.sequential.method import SEQUENTIAL

__all__ = ["METHOD", "SEQUENTIAL"]
