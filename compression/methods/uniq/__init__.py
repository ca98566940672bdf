"""UniQ: trained steps of a grid that leaves zero out, from one bit a weight on."""

from compression.methods.uniq.method import METHOD, UNIQ

__all__ = ["METHOD", "UNIQ"]
