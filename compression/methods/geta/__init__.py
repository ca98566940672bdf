"""GETA: joint structured pruning and quantization-aware training (arXiv 2502.16638) with the QASSO optimizer."""

from compression.methods.geta.method import GETA
from compression.methods.geta.method import METHOD
from compression.methods.geta.qasso import QASSO

__all__ = ["GETA", "METHOD", "QASSO"]
