"""What a method may ask of a budget. An ask is one object with all its faces: the field of the file, the control of a
form, the option of the command line, the check, the words, and the conversion from what another method asks.

A budget holds values by field name (:attr:`compression.budget.Budget.asks`); a method lists the asks it reads. A value
of another method's field stays in the budget and is not used, so that one budget can be put to several methods.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from compression.bounds import HIGHEST_BITS, HIGHEST_RATE, LOWEST_BITS, check_bits, check_positive, check_share
from compression.errors import CompressionError
from compression.reading import is_number, short

HIGHEST_SPARSITY = 0.98  # of a form's slider; a file may ask for more
UNITS, WEIGHTS = "units", "weights"
WEIGHT_BITS, ACTIVATION_BITS = "weight_bits", "activation_bits"  # also fields of the bounds of a layer
BITS_OPTION, ACTIVATION_BITS_OPTION = "--bits", "--activation-bits"
WIDEST = 8  # upper end of the default bit range

Bounds = Mapping[str, Mapping[str, Any]]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Control:
    """What a form draws for an ask: a slider with one handle, or with two (``range``).

    ``optional``: a switch turns the ask on, and without it the value is ``None``. ``format`` is printf's.
    """

    kind: Literal["slider", "range"]
    label: str
    low: float
    high: float
    step: float
    default: Any
    format: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Ask:
    """One thing that a method reads from a budget.

    ``field``: its key in ``Budget.asks``; ``option``: its option on the command line, empty where a file sets it;
    ``default``: its value in a budget that does not mention it; ``help``: a sentence for forms and ``--help``;
    ``layer_bound``, ``group_bound``: the field that bounds it for a single layer or group, empty where none does.
    """

    field: str
    default: Any
    help: str
    option: str = ""
    layer_bound: str = ""
    group_bound: str = ""

    def value(self, asks: Mapping[str, Any]) -> Any:
        """The value in a budget's ``asks``: of this field, else converted from a related one, else the default.

        Raises:
            CompressionError: a value that this ask cannot have.
        """
        if self.field in asks:
            return self.accept(asks[self.field])
        related = self.convert(asks)
        return self.default if related is None else related

    def accept(self, value: Any) -> Any:
        """A value as a file, a form or the command line gives it, checked and in the type of this ask.

        Raises:
            CompressionError: naming the field and what it may be.
        """
        return value

    def convert(self, asks: Mapping[str, Any]) -> Any:
        """The value that follows from the fields of other methods, or ``None``."""
        return None

    def check_bounds(self, asks: Mapping[str, Any], layers: Bounds) -> None:
        """Refuse bounds of single layers that mean nothing for this value.

        Raises:
            CompressionError: naming the layer.
        """
        bounded = [layer for layer, entry in layers.items() if entry.get(self.layer_bound) is not None]
        if bounded and self.value(asks) is None:
            raise CompressionError(
                f"layers.{bounded[0]}.{self.layer_bound}: set {self.field} too, so that activations are quantized"
            )

    def control(self) -> Control | None:
        """What a form draws; ``None`` for what only a file or the command line sets."""
        return None

    def bound_control(self, value: Any) -> Control | None:
        """What a form draws to bound a layer where the budget asks for ``value``; its default holds without a bound."""
        return None

    def words(self, value: Any) -> str:
        """What is asked, as part of a sentence: ``50 % of the units removed``; empty for nothing."""
        return ""

    def caveat(self) -> str:
        """What not to expect of a network compressed with this ask; empty where nothing needs to be said."""
        return ""

    def size_share(self, value: Any) -> float:
        """About which share of the weights' bytes this value leaves: good for putting budgets in order of size."""
        return 1.0


@dataclass(frozen=True)
class Sparsity(Ask):
    """The share that is removed, in [0, 1): K = ⌊share·N⌋ of N prunable units, or round(share·N) of N weights."""

    field: str = "sparsity"
    default: float = 0.5
    help: str = "share in [0, 1) that is removed: of the prunable units, or of the single weights"
    option: str = "--sparsity"
    target: str = UNITS

    def __post_init__(self) -> None:
        bound = "group_bound" if self.target == UNITS else "layer_bound"
        object.__setattr__(self, bound, "sparsity")

    def accept(self, value: Any) -> float:
        check_share(value, self.field)
        return float(value)

    def control(self) -> Control:
        label = "Channels removed" if self.target == UNITS else "Weights set to zero"
        return Control("slider", label, 0.0, HIGHEST_SPARSITY, 0.01, self.default)

    def bound_control(self, value: Any) -> Control:
        kind: Literal["range", "slider"] = "range" if self.target == UNITS else "slider"
        default = (0.0, HIGHEST_SPARSITY) if self.target == UNITS else value
        return Control(kind, "sparsity", 0.0, HIGHEST_SPARSITY, 0.01, default)

    def words(self, value: Any) -> str:
        return f"{100 * value:.4g} % of the {'units removed' if self.target == UNITS else 'weights at zero'}"

    def caveat(self) -> str:
        if self.target == UNITS:
            return ""
        return "The zeros are unstructured: they make the packed file smaller, not the arithmetic. No speed is claimed."

    def size_share(self, value: Any) -> float:
        """A layer whose inputs and outputs both lose the share s of their channels keeps about (1 - s)²."""
        return float((1 - value) ** (2 if self.target == UNITS else 1))


@dataclass(frozen=True)
class BitsAsk(Ask):
    """What the asks for bit-widths share: a range and a number stand for each other."""

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
        return [fewest, fewest]

    def bound_control(self, value: Any) -> Control | None:
        label, limits = self.layer_bound.replace("_", " ").removeprefix("weight "), self.limits(value)
        return None if limits is None else Control("range", label, LOWEST_BITS, HIGHEST_BITS, 1, limits)

    def size_share(self, value: Any) -> float:
        low, high = self.limits(value) or (32.0, 32.0)
        return (low + high) / 2 / 32 if self.option == BITS_OPTION else 1.0

    def _kind(self) -> str:
        return "a weight" if self.layer_bound == WEIGHT_BITS else "an activation"


@dataclass(frozen=True)
class BitRange(BitsAsk):
    """Bounds (low, high) of bit-widths that the method chooses layer by layer; the ends are within 2..16."""

    field: str = WEIGHT_BITS
    default: Pair = (4, WIDEST)
    help: str = "bounds of the weights' bit-widths at the end, LO:HI; one number is both ends"
    option: str = BITS_OPTION
    layer_bound: str = WEIGHT_BITS

    def accept(self, value: Any) -> Pair:
        pair = (value, value) if is_number(value) else value
        check_bits(pair, self.field)
        low, high = pair
        return low, high

    def convert(self, asks: Mapping[str, Any]) -> Pair | None:
        """An average, by the whole numbers beside it."""
        if self.field != WEIGHT_BITS or asks.get("bits") is None:
            return None
        bits = _number_of_bits(asks["bits"], "bits")
        return math.floor(bits), math.ceil(bits)

    def limits(self, value: Any) -> Pair | None:
        return None if value is None else (value[0], value[1])

    def suggested_bound(self, fewest: int, value: Any) -> list[int]:
        return [fewest, max(fewest, math.floor(value[1]))]

    def control(self) -> Control:
        return Control("range", "Bits of the weights, from … to", LOWEST_BITS, HIGHEST_BITS, 1, self.default)

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
        return _number_of_bits(value, self.field)

    def convert(self, asks: Mapping[str, Any]) -> float | None:
        """The middle of a range; a whole bit-width as it is."""
        value = asks.get(WEIGHT_BITS)
        if value is None:
            return None
        low, high = (value, value) if is_number(value) else value
        return (low + high) / 2

    def suggested_bound(self, fewest: int, value: Any) -> list[int]:
        return [fewest, HIGHEST_BITS]

    def bound_control(self, value: Any) -> Control:
        return Control("range", "bits", LOWEST_BITS, HIGHEST_BITS, 1, (LOWEST_BITS, HIGHEST_BITS))

    def control(self) -> Control:
        return Control(
            "slider", "Average bits per surviving weight", LOWEST_BITS, HIGHEST_BITS, 0.25, self.default, "%.2f"
        )

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
            return math.floor(_number_of_bits(value, self.field))
        check_bits(value, self.field)
        return math.floor(value[1])

    def convert(self, asks: Mapping[str, Any]) -> int | None:
        value = asks.get(WEIGHT_BITS if self.field == "bits" else "bits") if self.layer_bound == WEIGHT_BITS else None
        return None if value is None else self.accept(value)

    def widths(self, asks: Mapping[str, Any], layers: Bounds, names: Collection[str]) -> dict[str, int]:
        """Layer → its bit-width, brought into the layer's own bounds where it has some.

        Raises:
            CompressionError: bounds of a layer that is not among ``names``.
        """
        for name in layers:
            if name not in names:
                raise CompressionError(f"layers: no layer {name!r} takes part; layers: {', '.join(names)}")
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
        return Control("slider", "Bits of every layer's weights", LOWEST_BITS, HIGHEST_BITS, 1, self.default)

    def words(self, value: Any) -> str:
        return f"{value} bits for the weights of every layer"


@dataclass(frozen=True)
class ActivationBits(BitRange):
    """Bounds (low, high) of the bit-widths of what flows into the layers; ``None`` leaves it in floating point."""

    field: str = ACTIVATION_BITS
    default: Pair | None = None  # type: ignore[assignment]
    help: str = "quantize activations too: bounds of their bit-widths, LO:HI"
    option: str = ACTIVATION_BITS_OPTION
    layer_bound: str = ACTIVATION_BITS

    def accept(self, value: Any) -> Pair | None:  # type: ignore[override]
        return None if value is None else super().accept(value)

    def control(self) -> Control:
        label = "Bits of the activations, from … to"
        return Control("range", label, LOWEST_BITS, HIGHEST_BITS, 1, (WIDEST, WIDEST), optional=True)


@dataclass(frozen=True)
class EqualActivationBits(EqualBits):
    """One whole bit-width for what flows into every layer; ``None`` leaves it in floating point."""

    field: str = ACTIVATION_BITS
    default: int | None = None  # type: ignore[assignment]
    help: str = "quantize activations too: the bit-width of what flows into every layer"
    option: str = ACTIVATION_BITS_OPTION
    layer_bound: str = ACTIVATION_BITS

    def accept(self, value: Any) -> int | None:  # type: ignore[override]
        return None if value is None else super().accept(value)

    def control(self) -> Control:
        return Control("slider", "Bits of all activations", LOWEST_BITS, HIGHEST_BITS, 1, WIDEST, optional=True)

    def words(self, value: Any) -> str:
        return "" if value is None else f"{value} bits an activation"


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


def check_number(value: Any, what: str) -> None:
    """Refuse what is no finite number."""
    if not is_number(value):
        raise CompressionError(f"{what} must be a finite number, not {short(value)}")


def _number_of_bits(value: Any, what: str) -> float:
    if not is_number(value):
        raise CompressionError(f"{what} must be a finite number, not {short(value)}")
    if not LOWEST_BITS <= value <= HIGHEST_BITS:
        raise CompressionError(f"{what} must lie in {LOWEST_BITS}..{HIGHEST_BITS}, not {short(value)}")
    return float(value)


def _check_schedule(value: Any) -> None:
    if not isinstance(value, Mapping):
        raise CompressionError(f"schedule must be an object of names and values, not {short(value)}")


def _check_bits_of(field: str) -> Any:
    def check(value: Any) -> None:
        if is_number(value):
            _number_of_bits(value, field)
        elif value is not None or field != ACTIVATION_BITS:
            check_bits(value, field)

    return check


STANDARD = {
    "sparsity": Sparsity().accept,
    WEIGHT_BITS: _check_bits_of(WEIGHT_BITS),
    ACTIVATION_BITS: _check_bits_of(ACTIVATION_BITS),
    "bits": _check_bits_of("bits"),
    "schedule": _check_schedule,
    "lr_quant": QuantizerRate().accept,
}
"""Field → its check. Files of version 1 have these beside the other fields, and Python may write a budget so."""


def check_unit_bounds(value: Any, what: str) -> None:
    """Refuse what is no pair [lo, hi] of shares."""
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(is_number, value)):
        raise CompressionError(f"{what} must be a pair [lo, hi], not {short(value)}")
    if not 0 <= value[0] <= value[1] <= 1:
        raise CompressionError(f"{what} must satisfy 0 <= lo <= hi <= 1, not {value!r}")


GROUP_BOUNDS = {"sparsity": check_unit_bounds}
LAYER_BOUNDS = {WEIGHT_BITS: check_bits, ACTIVATION_BITS: check_bits, "sparsity": check_share}
"""Fields of the bounds of a single group or layer; a method with a new kind of ask adds its own."""
