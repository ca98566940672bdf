"""What a method may ask of a budget. An ask is one object with all its faces: the field of the file, the control of a
form, the option of the command line, the check, the words, and the conversion from what another method asks.

A budget holds values by field name (:attr:`compression.budget.Budget.asks`); a method lists the asks it reads. A value
of another method's field stays in the budget and is not used, so that one budget can be put to several methods.
"""

from __future__ import annotations

from compression.asks.base import Ask, Bounds, Control, Pair
from compression.asks.bits import (
    ACTIVATION_BITS,
    ACTIVATION_BITS_OPTION,
    BITS_OPTION,
    WEIGHT_BITS,
    ActivationBits,
    AverageBits,
    BitRange,
    BitsAsk,
    EqualActivationBits,
    EqualBits,
    with_ends,
)
from compression.asks.coded import CodedBits
from compression.asks.sparsity import (
    AMOUNTS,
    BOPS,
    BOPS_SAVED,
    HIGHEST_SPARSITY,
    MACS,
    MACS_SAVED,
    REMOVAL,
    UNITS,
    UNITS_REMOVED,
    WEIGHTS,
    CostSaved,
    Sparsity,
    in_place_of_others,
)
from compression.asks.standard import GROUP_BOUNDS, LAYER_BOUNDS, OPTIONS, STANDARD, QuantizerRate

__all__ = [
    "ACTIVATION_BITS", "ACTIVATION_BITS_OPTION", "AMOUNTS", "BITS_OPTION", "BOPS", "BOPS_SAVED", "GROUP_BOUNDS",
    "HIGHEST_SPARSITY", "LAYER_BOUNDS", "MACS", "MACS_SAVED", "OPTIONS", "REMOVAL", "STANDARD", "UNITS",
    "UNITS_REMOVED", "WEIGHTS", "WEIGHT_BITS", "ActivationBits", "Ask", "AverageBits", "BitRange", "BitsAsk", "Bounds",
    "CodedBits", "Control", "CostSaved", "EqualActivationBits", "EqualBits", "Pair", "QuantizerRate", "Sparsity",
    "in_place_of_others", "with_ends",
]  # fmt: skip
