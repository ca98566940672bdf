"""The ask for the average size of a weight as it is stored, with all that is needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression.asks.base import Control
from compression.asks.bits import AverageBits
from compression.bounds import HIGHEST_BITS, check_number, check_within
from compression.reading import is_number

FEWEST_CODED_BITS = 0.5


@dataclass(frozen=True)
class CodedBits(AverageBits):
    """The average bits of a weight in the file: all that decoding takes is counted, and it may be below 2."""

    field: str = "coded_bits"
    default: float = 2.0
    help: str = "average bits of a weight as it is stored, codebooks and steps counted"

    def accept(self, value: Any) -> float:
        if isinstance(value, (tuple, list)):
            super().accept(value)  # which says that it is one number
        check_number(value, self.field)
        check_within(value, self.field, FEWEST_CODED_BITS, HIGHEST_BITS)
        return float(value)

    def convert(self, asks: Mapping[str, Any]) -> float | None:
        """The average of value bits, or the middle of a range."""
        return float(asks["bits"]) if is_number(asks.get("bits")) else super().convert(asks)

    def control(self) -> Control:
        return Control("slider", "Average bits of a weight as stored", FEWEST_CODED_BITS, 8, 0.25, self.default, "%.2f")

    def words(self, value: Any) -> str:
        return f"{value:g} bits a weight as stored, on average"
