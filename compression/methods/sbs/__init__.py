"""Single-path bit sharing: units and bit-widths, both by learned gates, within a number of bit operations."""

from compression.methods.sbs.method import METHOD

__all__ = ["METHOD"]
