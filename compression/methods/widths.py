"""The bit-widths of methods that give every layer the same: one whole number from a budget made for several methods."""

from __future__ import annotations

import math
from collections.abc import Collection

from compression.budget import Budget
from compression.errors import CompressionError


def equal_bits(budget: Budget, structured: bool) -> int:
    """The whole bit-width of all weights.

    That of an unstructured method is ⌊``bits``⌋, of which OPQ takes the average; that of a structured one the upper
    end of ``weight_bits``, in which GETA's lie. So each is measured against the method it is a baseline of.
    """
    return math.floor(budget.weight_bits[1] if structured else budget.bits)


def weight_widths(budget: Budget, layers: Collection[str], structured: bool) -> dict[str, int]:
    """Layer → the bit-width of its weight: :func:`equal_bits`, brought into the layer's own bounds where it has some.

    Raises:
        CompressionError: bounds of a layer that is not there.
    """
    return _widths(budget, layers, "weight_bits", equal_bits(budget, structured))


def activation_widths(budget: Budget, layers: Collection[str]) -> dict[str, int] | None:
    """Layer → the bit-width of its input, the upper end of ``activation_bits``; ``None`` when they stay in fp32.

    Raises:
        CompressionError: bounds of a layer that is not there, or of single layers only.
    """
    if budget.activation_bits is not None:
        return _widths(budget, layers, "activation_bits", math.floor(budget.activation_bits[1]))
    named = [layer for layer, bounds in budget.layers.items() if bounds.get("activation_bits") is not None]
    if named:
        raise CompressionError(
            f"layers.{named[0]}.activation_bits: set activation_bits too, so that activations are quantized"
        )
    return None


def _widths(budget: Budget, layers: Collection[str], field: str, bits: int) -> dict[str, int]:
    for name in budget.layers:
        if name not in layers:
            raise CompressionError(f"layers: no layer {name!r} takes part; layers: {', '.join(layers)}")
    found = {}
    for name in layers:
        low, high = budget.layers.get(name, {}).get(field) or (bits, bits)
        found[name] = min(max(bits, math.ceil(low)), math.floor(high))
    return found


def bits_in_words(budget: Budget, structured: bool) -> str:
    """One line on the bit-width all layers get, and where it comes from."""
    bits = equal_bits(budget, structured)
    if structured:
        low, high = budget.weight_bits
        source = "weight_bits" if low == high else f"the upper end of weight_bits {low:g}:{high:g}"
    else:
        source = "bits" if bits == budget.bits else f"bits {budget.bits:g}, rounded down"
    return f"every layer gets {bits} bits ({source}), within its own bounds"
