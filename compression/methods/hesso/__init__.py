"""HESSO: channels fade away in several periods of one training run; weights are then rounded to nearest."""

from compression.methods.hesso.method import METHOD

__all__ = ["METHOD"]
