"""The asks for bit-widths of weights and activations: a range, an average, or one whole number for all layers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from compression.asks.base import Ask, Bounds, Control, Pair
from compression.bounds import HIGHEST_BITS, LOWEST_BITS, LOWEST_CODED_BITS, check_bits, check_number
from compression.errors import CompressionError
from compression.reading import is_number, listed, short

WEIGHT_BITS, ACTIVATION_BITS = "weight_bits", "activation_bits"  # also fields of the bounds of a layer
CODED_BITS = "coded_bits"
STANDING_FOR_EACH_OTHER = ("bits", WEIGHT_BITS, CODED_BITS)
"""Fields that ask for the bits of weights in three ways: each is converted from the others."""
BITS_OPTION, ACTIVATION_BITS_OPTION = "--bits", "--activation-bits"
WIDEST = 8  # upper end of the default bit range
ENDS = 8  # bits of the first and the last layer where they are not like the others


@dataclass(frozen=True)
class BitsAsk(Ask):
    """What the asks for bit-widths share: a range and a number stand for each other.

    ``lowest``, ``highest``: the fewest and the most bits that the method reaches.
    """

    lowest: float = LOWEST_BITS
    highest: float = HIGHEST_BITS

    def check_bounds(self, asks: Mapping[str, Any], layers: Bounds) -> None:
        """Refuse bounds that this method does not reach, and those of activations that are not quantized."""
        super().check_bounds(asks, layers)
        for layer, entry in layers.items():
            bound = entry.get(self.layer_bound)
            if bound is not None:
                check_bits(bound, f"layers.{layer}.{self.layer_bound}", self.lowest, self.highest)

    def nearest(self, asks: Mapping[str, Any]) -> Any:
        widths = ("bits", WEIGHT_BITS, ACTIVATION_BITS)
        return self.value({name: self._within(value) if name in widths else value for name, value in asks.items()})

    def nearest_bound(self, bound: Any) -> Any:
        return self._within(bound)

    def _within(self, value: Any) -> Any:
        """A number, or each end of a range, brought into what the method reaches."""
        if isinstance(value, (tuple, list)):
            return type(value)(map(self._within, value))
        return min(max(value, self.lowest), self.highest) if is_number(value) else value

    def limits(self, value: Any) -> Pair | None:
        """The least and the most bits that a layer without bounds may get; ``None``: 32-bit floating point."""
        return None if value is None else (float(value), float(value))

    def layer_limits(self, asks: Mapping[str, Any], layers: Bounds, layer: str) -> Pair | None:
        """The whole bit-widths that ``layer`` may get, its own bounds first; ``None``: 32-bit floating point."""
        limits = self.limits(self.value(asks))
        if limits is None:
            return None
        own: Pair | None = layers.get(layer, {}).get(self.layer_bound)
        low, high = own if own is not None else limits
        return float(math.ceil(low)), float(math.floor(high))

    def suggested_bound(self, fewest: int, value: Any) -> list[int]:
        """The bounds of a layer that needs at least ``fewest`` bits, where the budget asks for ``value``."""
        return [*self._within((fewest, fewest))]

    def bound_control(self, value: Any) -> Control | None:
        label, limits = self.layer_bound.replace("_", " ").removeprefix("weight "), self.limits(value)
        return None if limits is None else Control("range", label, self.lowest, self.highest, 1, limits)

    def size_share(self, value: Any) -> float:
        low, high = self.limits(value) or (32.0, 32.0)
        return (low + high) / 2 / 32 if self.option == BITS_OPTION else 1.0

    def _kind(self) -> str:
        return "a weight" if self.layer_bound == WEIGHT_BITS else "an activation"


@dataclass(frozen=True)
class BitRange(BitsAsk):
    """Bounds (low, high) of bit-widths that the method chooses layer by layer; the ends are within what it reaches."""

    field: str = WEIGHT_BITS
    default: Pair = (4, WIDEST)
    help: str = "bounds of the weights' bit-widths at the end, LO:HI; one number is both ends"
    option: str = BITS_OPTION
    layer_bound: str = WEIGHT_BITS

    def accept(self, value: Any) -> Pair:
        pair = (value, value) if is_number(value) else value
        check_bits(pair, self.field, self.lowest, self.highest)
        low, high = pair
        return low, high

    def convert(self, asks: Mapping[str, Any]) -> Pair | None:
        """An average, by the whole numbers beside it."""
        if self.field != WEIGHT_BITS:
            return None
        bits = _of_coded(asks) if asks.get("bits") is None else number_of_bits(asks["bits"], "bits", self.lowest)
        return None if bits is None else (math.floor(bits), math.ceil(bits))

    def limits(self, value: Any) -> Pair | None:
        return None if value is None else (value[0], value[1])

    def suggested_bound(self, fewest: int, value: Any) -> list[int]:
        return [*self._within((fewest, max(fewest, math.floor(value[1]))))]

    def control(self) -> Control:
        return Control("range", "Bits of the weights, from … to", self.lowest, self.highest, 1, self.default)

    def words(self, value: Any) -> str:
        if value is None:
            return ""
        low, high = value
        return f"{low:g} bits {self._kind()}" if low == high else f"{low:g} to {high:g} bits {self._kind()}"


@dataclass(frozen=True)
class AverageBits(BitsAsk):
    """The average number of value bits for each weight that is not zero; the method decides which layer gets more."""

    field: str = "bits"
    default: float = 4.0
    help: str = "average bits of a weight that is not zero"
    option: str = BITS_OPTION
    layer_bound: str = WEIGHT_BITS

    def accept(self, value: Any) -> float:
        if isinstance(value, (tuple, list)):
            raise CompressionError(
                f"{self.field} must be one average number, such as 4, not {':'.join(map(str, value))[:40]}"
            )
        return number_of_bits(value, self.field, self.lowest, self.highest)

    def convert(self, asks: Mapping[str, Any]) -> float | None:
        """The middle of a range; a whole bit-width as it is; coded bits, at least the fewest that a value has."""
        value = asks.get(WEIGHT_BITS)
        if value is None:
            return _of_coded(asks)
        low, high = (value, value) if is_number(value) else value
        return (low + high) / 2

    def suggested_bound(self, fewest: int, value: Any) -> list[int]:
        return [*self._within((fewest, HIGHEST_BITS))]

    def bound_control(self, value: Any) -> Control:
        return Control("range", "bits", self.lowest, self.highest, 1, (self.lowest, self.highest))

    def control(self) -> Control:
        label = "Average bits per surviving weight"
        return Control("slider", label, self.lowest, self.highest, 0.25, self.default, "%.2f")

    def words(self, value: Any) -> str:
        return f"{value:g} bits a weight on average"


@dataclass(frozen=True)
class EqualBits(BitsAsk):
    """One whole bit-width for all layers: of a range the upper end, of a number the whole one below it.

    With ``field`` ``weight_bits`` it is measured beside methods that choose within a range, with ``bits`` beside those
    that spend an average.
    """

    field: str = "bits"
    default: int = 4
    help: str = "the whole bit-width of every layer"
    option: str = BITS_OPTION
    layer_bound: str = WEIGHT_BITS

    def accept(self, value: Any) -> int:
        if is_number(value):
            return math.floor(number_of_bits(value, self.field, self.lowest, self.highest))
        check_bits(value, self.field, self.lowest, self.highest)
        return math.floor(value[1])

    def convert(self, asks: Mapping[str, Any]) -> int | None:
        if self.layer_bound != WEIGHT_BITS:
            return None
        value = asks.get(WEIGHT_BITS if self.field == "bits" else "bits")
        value = _of_coded(asks) if value is None else value
        return None if value is None else self.accept(value)

    def widths(self, asks: Mapping[str, Any], layers: Bounds, names: Collection[str]) -> dict[str, int]:
        """Layer → its bit-width, brought into the layer's own bounds where it has some.

        Raises:
            CompressionError: bounds of a layer that is not among ``names``.
        """
        check_taking_part(layers, names)
        bits = self.value(asks)
        bounds: dict[str, Pair] = {name: layers.get(name, {}).get(self.layer_bound) or (bits, bits) for name in names}
        return {name: min(max(bits, math.ceil(low)), math.floor(high)) for name, (low, high) in bounds.items()}

    def layer_limits(self, asks: Mapping[str, Any], layers: Bounds, layer: str) -> Pair | None:
        if self.value(asks) is None:
            return None
        bits = self.widths(asks, layers, {layer, *layers})[layer]
        return float(bits), float(bits)

    def bound_control(self, value: Any) -> Control | None:
        whole = super().bound_control(value)
        return None if whole is None else replace(whole, kind="slider", default=value)

    def control(self) -> Control:
        return Control("slider", "Bits of every layer's weights", self.lowest, self.highest, 1, self.default)

    def words(self, value: Any) -> str:
        return f"{_counted(value)} for the weights of every layer"


@dataclass(frozen=True)
class _OfActivations(BitsAsk):
    """What both asks for the bit-widths of what flows into the layers share; ``None`` leaves it in floating point."""

    field: str = ACTIVATION_BITS
    default: Any = None
    help: str = "quantize activations too"
    option: str = ACTIVATION_BITS_OPTION
    layer_bound: str = ACTIVATION_BITS

    def accept(self, value: Any) -> Any:
        return None if value is None else super().accept(value)


@dataclass(frozen=True)
class ActivationBits(_OfActivations, BitRange):
    """Bounds (low, high) of the bit-widths of what flows into the layers, or ``None``."""

    help: str = "quantize activations too: bounds of their bit-widths, LO:HI"

    def control(self) -> Control:
        label = "Bits of the activations, from … to"
        return Control("range", label, self.lowest, self.highest, 1, (WIDEST, WIDEST), optional=True)


@dataclass(frozen=True)
class EqualActivationBits(_OfActivations, EqualBits):
    """One whole bit-width for what flows into every layer, or ``None``."""

    help: str = "quantize activations too: the bit-width of what flows into every layer"

    def control(self) -> Control:
        return Control("slider", "Bits of all activations", self.lowest, self.highest, 1, WIDEST, optional=True)

    def words(self, value: Any) -> str:
        return "" if value is None else f"{_counted(value)} an activation"


def with_ends(
    chosen: Iterable[Ask], asks: Mapping[str, Any], layers: Bounds, ends: Mapping[str, Collection[str]]
) -> dict[str, dict[str, Any]]:
    """The bounds ``layers`` and :data:`ENDS` bits for the layers of ``ends`` (field → names), where they have none.

    ``chosen`` are the asks of a method; what a budget does not quantize (``None``) gets no bounds.
    """
    bounds: dict[str, dict[str, Any]] = {layer: dict(entry) for layer, entry in layers.items()}
    for ask in chosen:
        if isinstance(ask, BitsAsk) and ask.value(asks) is not None:
            for layer in ends[ask.layer_bound]:
                if bounds.setdefault(layer, {}).get(ask.layer_bound) is None:
                    bounds[layer][ask.layer_bound] = (ENDS, ENDS)
    return bounds


def check_taking_part(layers: Bounds, names: Collection[str]) -> None:
    """Refuse bounds of layers that are not there.

    Raises:
        CompressionError: naming the first, and those there are.
    """
    for name in layers:
        if name not in names:
            raise CompressionError(f"layers: no layer {name!r} takes part; layers: {listed(list(names))}")


def number_of_bits(value: Any, what: str, lowest: float = LOWEST_BITS, highest: float = HIGHEST_BITS) -> float:
    """A bit-width or an average of bit-widths.

    Raises:
        CompressionError: no finite number in ``lowest``..``highest``.
    """
    check_number(value, what)
    if not lowest <= value <= highest:
        raise CompressionError(f"{what} must lie in {lowest:g}..{highest:g}, not {short(value)}")
    return float(value)


def _counted(bits: float) -> str:
    return f"{bits:g} {'bit' if bits == 1 else 'bits'}"


def _of_coded(asks: Mapping[str, Any]) -> float | None:
    """Coded bits as an average of value bits, which cannot be fewer than :data:`LOWEST_BITS`."""
    value = asks.get(CODED_BITS)
    return None if value is None else max(float(LOWEST_BITS), number_of_bits(value, CODED_BITS, LOWEST_CODED_BITS))
