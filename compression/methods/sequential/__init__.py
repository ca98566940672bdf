"""Prune, then quantize: structured pruning, fine-tuning, quantization-aware training, one after the other."""

from compression.methods.sequential.method import METHOD, SEQUENTIAL

__all__ = ["METHOD", "SEQUENTIAL"]
