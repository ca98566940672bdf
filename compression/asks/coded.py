"""The ask for bits as they lie in the packed file, rather than as integers of a fixed width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from compression.asks.base import Control
from compression.asks.bits import CODED_BITS, WEIGHT_BITS, AverageBits, number_of_bits
from compression.bounds import FEWEST_BITS, LOWEST_CODED_BITS
from compression.errors import CompressionError
from compression.reading import is_number


@dataclass(frozen=True)
class CodedBits(AverageBits):
    """The average number of bits that a weight takes in the packed file, with what a method stores to read it.

    It may be below 2, the least width of an integer: codes that occur often take less than a bit each, and an index may
    stand for several weights.
    """

    field: str = CODED_BITS
    help: str = "average bits of a weight in the packed file, its values entropy-coded; 0.5 to 16"

    def accept(self, value: Any) -> float:
        if isinstance(value, (tuple, list)):
            raise CompressionError(
                f"{self.field} must be one average number, such as 1.5, not {':'.join(map(str, value))[:40]}"
            )
        return number_of_bits(value, self.field, LOWEST_CODED_BITS)

    def convert(self, asks: Mapping[str, Any]) -> float | None:
        """An average of value bits as it is, of a range its middle: coded, as many values take no more."""
        value = asks.get("bits") if asks.get("bits") is not None else asks.get(WEIGHT_BITS)
        if value is None:
            return None
        low, high = (value, value) if is_number(value) else value
        return (number_of_bits(low, "bits", FEWEST_BITS) + number_of_bits(high, "bits", FEWEST_BITS)) / 2

    def control(self) -> Control:
        return replace(super().control(), label="Average coded bits per weight", low=LOWEST_CODED_BITS)

    def words(self, value: Any) -> str:
        return f"{value:g} coded bits a weight on average"
