"""The same budget for another method: what is asked stays, what belongs to the first method alone is left out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from app import draft
from app import offer

OF_ONE_METHOD = ("options", "schedule", "lr", "lr_quant")


def translated(budget: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The budget with another method. A bit range becomes its middle for an average, an average its whole neighbours.

    Sparsity keeps its number, though it counts units for one method and single weights for another.
    """
    kept = {name: value for name, value in budget.items() if name not in OF_ONE_METHOD}
    if not offer.get(budget["method"]).structured:  # its bits are one number, not a range
        bits = float(budget.get("bits", 4.0))
        kept["weight_bits"] = [math.floor(bits), math.ceil(bits)]
    else:
        low, high = budget.get("weight_bits") or (4, 8)
        kept["bits"] = (low + high) / 2
    return {**kept, "method": method}


def prepare(budget: Mapping[str, Any], method: str) -> None:
    """Set up the Budget page with the same budget for this method.

    Raises:
        CompressionError: the page cannot take it, such as a budget that names a weights file.
    """
    draft.load(json.dumps(translated(budget, method)).encode())


def same(budget: Mapping[str, Any]) -> None:
    """Set up the Budget page with this very budget, from the weights that are here: to repeat a run of somebody else's.

    Raises:
        CompressionError: the page cannot take it.
    """
    draft.load(json.dumps({**budget, "weights": None}).encode())
