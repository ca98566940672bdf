"""What a plan of a budget says, and which bit-widths a layer may get in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.budget import method_catalog
from compression.budget import Budget
from compression.plots.plan import LayerPlan

if TYPE_CHECKING:
    from compression.counting.cost import Cost

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """``low`` and ``high`` are the cost at the lower and the upper bit-widths (equal where the bits are decided).

    ``bytes`` are (low, high) sizes; ``error`` is Σ(w - ŵ)² relative to Σw² where a closed form gives it; ``notes`` say
    where the budget could not be followed to the letter.
    """

    dense: Cost
    low: Cost
    high: Cost
    bytes: tuple[float, float]
    removed: Mapping[str, int]
    layers: tuple[LayerPlan, ...]
    table: tuple[Mapping[str, Any], ...]
    error: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """How many units go."""
        return sum(self.removed.values())


def layer_range(budget: Budget, layer: str, field: str) -> tuple[float, float] | None:
    """The whole bit-widths a layer's weights or input may get (``field`` as in a budget); ``None`` means fp32."""
    from compression.methods.widths import activation_widths, weight_widths

    method = method_catalog.get(budget.method)
    if method.uses.bits == "equal":
        named = {layer, *budget.layers}
        weights = field == "weight_bits"
        found = weight_widths(budget, named, method.structured) if weights else activation_widths(budget, named)
        return (found[layer], found[layer]) if found else None
    default = budget.weight_bits if field == "weight_bits" else budget.activation_bits
    if default is None:
        return None
    low, high = budget.layers.get(layer, {}).get(field) or default
    return math.ceil(low), math.floor(high)
