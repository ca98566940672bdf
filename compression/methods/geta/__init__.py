"""GETA: joint structured pruning and quantization-aware training (arXiv 2502.16638) with the QASSO optimizer."""

from compression.methods.geta.method import GETA, METHOD
from compression.methods.geta.qasso import QASSO

__all__ = ["GETA", "METHOD", "QASSO"]
