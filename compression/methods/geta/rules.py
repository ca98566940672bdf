"""What sets a bit-width inside its range."""

from __future__ import annotations

from compression.errors import CompressionError
from compression.methods.geta.schedule import PRUNE_FIRST

BOUNDS, PRICED = "bounds", "priced"
BIT_RULES = (BOUNDS, PRICED)
"""What sets a bit-width inside its range: the bounds and the step rule, as published, or a price on bit operations."""


def check_bit_rule(rule: str, mean_bits: float, bits: tuple[float, float], scaled: bool, order: str) -> None:
    """Check the rule and the mean that goes with it against the range of the weights' bits.

    ``scaled``: whether gradients of steps are scaled, so that they are not those of the loss; ``order``: when bits
    fall.

    Raises:
        CompressionError: an unknown rule, a mean without a price or outside the range, a price with scaled gradients,
            or one that bits have no time to follow.
    """
    if rule not in BIT_RULES:
        raise CompressionError(f"bit_rule must be one of {', '.join(BIT_RULES)}, not {rule!r}")
    if mean_bits and rule != PRICED:
        raise CompressionError(f"mean_bits {mean_bits:g} counts with bit_rule {PRICED} only")
    if mean_bits and not bits[0] <= mean_bits <= bits[1]:
        raise CompressionError(
            f"mean_bits must lie in the range of the bits, {bits[0]:g} to {bits[1]:g}: {mean_bits:g}"
        )
    if order == PRUNE_FIRST and rule == PRICED:
        raise CompressionError(
            f"order {PRUNE_FIRST} leaves no step between the last reduction and the cool-down, in which bit_rule "
            f"{PRICED} would exchange bits: choose another order"
        )
    if scaled and rule == PRICED:
        raise CompressionError(f"gradient_scale must be false with bit_rule {PRICED}, which weighs gradients of steps")
