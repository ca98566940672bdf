"""Fields that every budget file may hold, whichever method reads them: those of version 1, and bounds; their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression.asks.base import Ask
from compression.asks.bits import ACTIVATION_BITS, CODED_BITS, WEIGHT_BITS, ActivationBits, BitRange, number_of_bits
from compression.asks.coded import CodedBits
from compression.asks.sparsity import BOPS_SAVED, MACS_SAVED, Sparsity
from compression.bounds import (
    FEWEST_BITS,
    HIGHEST_RATE,
    check_bits,
    check_number,
    check_positive,
    check_share,
    check_unit_bounds,
)
from compression.errors import CompressionError
from compression.reading import is_number, short


@dataclass(frozen=True)
class QuantizerRate(Ask):
    """The learning rate of the quantizers' own parameters; ``None`` leaves it to the method."""

    field: str = "lr_quant"
    default: float | None = None
    help: str = "learning rate of the quantizers' own parameters"
    option: str = "--lr-quant"

    def accept(self, value: Any) -> float | None:
        if value is not None:
            check_number(value, self.field)
            check_positive(value, self.field, HIGHEST_RATE)
        return value


def _check_schedule(value: Any) -> None:
    if not isinstance(value, Mapping):
        raise CompressionError(f"schedule must be an object of names and values, not {short(value)}")


def _check_bits_of(field: str) -> Any:
    def check(value: Any) -> None:
        if is_number(value):
            number_of_bits(value, field, FEWEST_BITS)
        elif value is not None or field != ACTIVATION_BITS:
            check_bits(value, field, FEWEST_BITS)

    return check


def _check_bound(value: Any, what: str) -> None:
    check_bits(value, what, FEWEST_BITS)


STANDARD = {
    "sparsity": lambda value: None if value is None else Sparsity().accept(value),
    WEIGHT_BITS: _check_bits_of(WEIGHT_BITS),
    ACTIVATION_BITS: _check_bits_of(ACTIVATION_BITS),
    "bits": _check_bits_of("bits"),
    CODED_BITS: CodedBits().accept,
    "schedule": _check_schedule,
    "lr_quant": QuantizerRate().accept,
    "macs": MACS_SAVED.accept,
    "bops": BOPS_SAVED.accept,
}
"""Field → its check. Files of version 1 have these beside the other fields, and Python may write a budget so."""

GROUP_BOUNDS = {"sparsity": check_unit_bounds}
LAYER_BOUNDS = {WEIGHT_BITS: _check_bound, ACTIVATION_BITS: _check_bound, "sparsity": check_share}
"""Field of the bounds of a single group or layer → its check, whichever method reads them."""

OPTIONS: Mapping[str, Ask] = {
    ask.option: ask for ask in (Sparsity(), BitRange(field="bits"), ActivationBits(), QuantizerRate())
}
"""Option of the command line → the ask that stores its value in a budget whose method has no ask of that option."""
