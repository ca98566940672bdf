"""Every bit-width from one training: weights nested so that their highest bits are a model by themselves."""

from compression.methods.anybits.method import METHOD

__all__ = ["METHOD"]
