"""CoDeQ: thresholds learned from the loss, one for each layer, with the quantizer that begins beyond them."""

from compression.methods.codeq.method import METHOD

__all__ = ["METHOD"]
