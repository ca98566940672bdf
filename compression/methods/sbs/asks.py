"""Bit-widths that share a path: of a range, those whose grids lie in one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression.asks import WEIGHT_BITS as WEIGHT_FIELD
from compression.asks import ActivationBits, BitRange, Bounds, Pair
from compression.asks.bits import ACTIVATION_BITS as ACTIVATION_FIELD
from compression.errors import CompressionError
from compression.reading import is_number

WIDTHS = (2, 4, 8)
"""Levels i / (2^k - 1) of k bits are levels of k' bits where k divides k'; the published set."""


def candidates(low: float, high: float) -> tuple[int, ...]:
    """Those of :data:`WIDTHS` from ``low`` to ``high``, ascending."""
    return tuple(bits for bits in WIDTHS if low <= bits <= high)


def _check_candidates(pair: Pair, what: str) -> None:
    if not candidates(*pair):
        low, high = _around(pair)
        raise CompressionError(
            f"{what}: none of the bit-widths 2, 4 and 8, which share one grid, lies in {pair[0]:g}:{pair[1]:g}: choose "
            f"a range with one of them, such as {low}:{high}"
        )


def _around(pair: Pair) -> tuple[int, int]:
    """The pair itself brought to candidates: those inside, else the nearest ones on both sides."""
    inside = candidates(*pair)
    if inside:
        return inside[0], inside[-1]
    below, above = (bits for bits in WIDTHS if bits <= pair[0]), (bits for bits in WIDTHS if bits >= pair[1])
    return max(below, default=WIDTHS[0]), min(above, default=WIDTHS[-1])


@dataclass(frozen=True)
class SharedBits(BitRange):
    """Bounds (low, high) of the weights' bit-widths, each of which is 2, 4 or 8."""

    default: Pair = (WIDTHS[0], WIDTHS[-1])
    help: str = "bounds of the weights' bit-widths, LO:HI; each layer gets 2, 4 or 8 bits within them"
    lowest: float = WIDTHS[0]
    highest: float = WIDTHS[-1]

    def accept(self, value: Any) -> Any:
        """The pair.

        Raises:
            CompressionError: not within 2..8, or without any of the widths.
        """
        pair = super().accept(value)
        if pair is not None:
            _check_candidates(pair, self.field)
        return pair

    def convert(self, asks: Mapping[str, Any]) -> Pair | None:
        """An average, by the widths beside it."""
        related = super().convert(asks)
        return None if related is None else _around(related)

    def check_bounds(self, asks: Mapping[str, Any], layers: Bounds) -> None:
        """Refuse moreover bounds of layers without any of the widths."""
        super().check_bounds(asks, layers)
        for layer, entry in layers.items():
            if entry.get(self.layer_bound) is not None:
                _check_candidates(tuple(entry[self.layer_bound]), f"layers.{layer}.{self.layer_bound}")

    def layer_limits(self, asks: Mapping[str, Any], layers: Bounds, layer: str) -> Pair | None:
        """The fewest and the most bits that ``layer`` may get, both among the widths."""
        limits = super().layer_limits(asks, layers, layer)
        return None if limits is None else tuple(map(float, _around(limits)))  # type: ignore[return-value]

    def nearest(self, asks: Mapping[str, Any]) -> Any:
        """As :meth:`value`, of a budget of another method: a range without any of the widths becomes one beside it."""
        value = asks.get(self.field)
        if value is None:
            return super().nearest(asks)
        return self.value({**asks, self.field: self.nearest_bound((value, value) if is_number(value) else value)})

    def nearest_bound(self, bound: Any) -> Any:
        """The pair, or the nearest one that has one of the widths."""
        low, high = super().nearest_bound(bound)
        return (low, high) if candidates(low, high) else _around((low, high))

    def suggested_bound(self, fewest: int, value: Any) -> list[int]:
        low, high = self.nearest_bound(super().suggested_bound(fewest, value))
        return [low, high]


@dataclass(frozen=True)
class SharedActivationBits(SharedBits, ActivationBits):
    """Bounds (low, high) of the bit-widths of what flows into the layers, each 2, 4 or 8, or ``None``."""

    field: str = ACTIVATION_FIELD
    default: Any = None
    help: str = "quantize activations too: bounds of their bit-widths, LO:HI; each layer's input gets 2, 4 or 8"
    option: str = "--activation-bits"
    layer_bound: str = ACTIVATION_FIELD

    def accept(self, value: Any) -> Any:
        """The pair, or ``None``."""
        return None if value is None else super().accept(value)


WEIGHT_BITS, ACTIVATION_BITS = SharedBits(), SharedActivationBits()
assert WEIGHT_BITS.field == WEIGHT_FIELD
