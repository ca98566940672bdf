"""BSQ: every bit of a layer's integers is trained, and planes of bits that die are bits saved."""

from compression.methods.bsq.method import BSQ, METHOD

__all__ = ["BSQ", "METHOD"]
