"""Quantization-aware pruning: single weights are removed in rounds while quantizers train."""

from compression.methods.qap.method import METHOD

__all__ = ["METHOD"]
