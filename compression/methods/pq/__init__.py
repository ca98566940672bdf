"""Product quantization: blocks of weights are replaced by indices into a book of a few learned blocks."""

from compression.methods.pq.method import METHOD, PQ

__all__ = ["METHOD", "PQ"]
