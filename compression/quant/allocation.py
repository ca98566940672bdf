"""What an allocation is: each layer's zeros, bits and step, and what they cost; as plain JSON and back."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from compression.bounds import FEWEST_BITS, HIGHEST_BITS, LOWEST_BITS
from compression.errors import CompressionError
from compression.options import PositiveNumber, Real
from compression.reading import Flag, Text, Whole, short, typed
from compression.representation import Represented

Amount = Annotated[Real, Field(ge=0)]
Count = Annotated[Whole, Field(ge=1)]


@dataclass(frozen=True)
class LayerAllocation:
    """What one layer gets.

    ``threshold`` is the largest pruned magnitude; ``error`` is Σ (w - ŵ)² of the layer, measured on its weights, of
    which ``pruning_error`` is the part of the pruned ones. Levels are ±k·``step``, k = 1..Q with Q = 2^(bits - 1) - 1;
    where ``offset`` is set they are ±(offset + (k - 1/2)·step). Where there are ``scales``, one for each output channel
    along dimension ``axis`` of the weight, a channel's step is ``step`` times its scale. ``coded``: bytes of its codes
    in the packed file, where the allocation coded them. ``scheme``: that of :mod:`.schemes`, where
    one was chosen; ``levels``: the magnitudes of its levels, ascending, the last of which is ``step``.
    ``groups`` are how many groups of ``group`` neighbours in a row have a step and a zero point each, fitted as
    ``clip`` says; ``step`` is then their mean.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Text
    numel: Count
    pruned: Whole
    threshold: Amount
    bits: Annotated[Whole, Field(ge=FEWEST_BITS, le=HIGHEST_BITS)]
    step: PositiveNumber
    error: Amount
    pruning_error: Amount
    offset: Amount | None = None
    scales: Annotated[tuple[PositiveNumber, ...], Field(min_length=1)] | None = None
    axis: Whole = 0
    coded: Count | None = None
    scheme: Text | None = None
    levels: Annotated[tuple[PositiveNumber, ...], Field(min_length=1)] | None = None
    group: Count | None = None
    groups: Count | None = None
    clip: Literal["max", "mse", "hqq"] | None = None

    @property
    def floats(self) -> int:
        """How many fp32 numbers are stored beside the codes; a group has 16 bits for its step and a zero point."""
        if self.groups is not None:
            return 1 + math.ceil(self.groups * (16 + self.bits) / 32)
        if self.levels is not None:
            return len(self.levels)
        return len(self.scales) if self.scales is not None else 1 + (self.offset is not None)


@dataclass(frozen=True, repr=False)
class Allocation(Represented):
    """Zeros, bits and step of every layer for a budget.

    ``exact``: best steps searched on the weights, and the bits proven optimal for them. ``gap`` bounds how far the
    bits' error may be above the optimum (relative, 0 when proven); ``value_bits`` never exceeds ``budget_bits``;
    ``notes`` say in words where the budget could not be followed to the letter. With ``grid`` mixed each layer says by
    itself which levels it has.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    sparsity: Annotated[Real, Field(ge=0, le=1)]
    bits: Annotated[Real, Field(ge=FEWEST_BITS, le=HIGHEST_BITS)]
    layers: tuple[LayerAllocation, ...]
    pruned: Whole
    numel: Count
    value_bits: Whole
    budget_bits: Whole
    exact: Flag
    gap: Amount = 0.0
    zeros: Literal["exact", "rounded"] = "exact"
    grid: Literal["plain", "survivor", "mixed"] = "plain"
    codebook: Literal["layer", "channel"] = "layer"
    notes: tuple[Text, ...] = ()

    @property
    def error(self) -> float:
        """Σ (w - ŵ)² over all layers."""
        return sum(layer.error for layer in self.layers)

    def to_dict(self, model: str | None = None, weights: str | None = None) -> dict[str, Any]:
        """Plain JSON values; ``model`` and ``weights`` name what was allocated on."""
        plain = dataclasses.asdict(self)
        plain["layers"], plain["notes"] = list(plain["layers"]), list(plain["notes"])
        for layer in plain["layers"]:
            layer |= {name: None if layer[name] is None else list(layer[name]) for name in ("scales", "levels")}
        return {"model": model, "weights": weights, **plain, "error": self.error}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Allocation:
        """What :meth:`to_dict` gave, of this version or an earlier one.

        Raises:
            CompressionError: an unknown or missing field, an impossible value, or sums that are not those of the
                layers; the field is named.
        """
        described = isinstance(raw, Mapping)
        fields = {name: value for name, value in raw.items() if name not in _DESCRIBING} if described else raw
        allocation = typed(_ALLOCATION, fields, "allocation")
        for i, layer in enumerate(allocation.layers):
            _check_layer(allocation, layer, f"allocation.layers.{i}")
        _check_sums(allocation)
        return allocation


_ALLOCATION = TypeAdapter(Allocation)
_DESCRIBING = ("model", "weights", "error")
"""What :meth:`Allocation.to_dict` writes beside the fields."""


def _check_sums(allocation: Allocation) -> None:
    """Refuse an allocation that is not the sum of its layers, each of which is there once."""
    layers = allocation.layers
    sums = {
        "pruned": sum(layer.pruned for layer in layers),
        "numel": sum(layer.numel for layer in layers),
        "value_bits": sum((layer.numel - layer.pruned) * layer.bits for layer in layers),
    }
    for field, total in sums.items():
        if getattr(allocation, field) != total:
            raise CompressionError(f"allocation.{field} is {getattr(allocation, field)}, its layers add up to {total}")
    if allocation.budget_bits < allocation.value_bits:
        raise CompressionError(f"allocation.budget_bits must be at least the value_bits, {allocation.value_bits}")
    for name, times in Counter(layer.name for layer in layers).items():
        if times > 1:
            raise CompressionError(f"allocation.layers: {short(name)} is there twice")


def _check_layer(allocation: Allocation, layer: LayerAllocation, where: str) -> None:
    """Refuse a layer that loses more weights than it has, or whose levels are not those of the allocation's grid."""
    if layer.pruned > layer.numel:
        raise CompressionError(f"{where}.pruned must be at most its numel {layer.numel}, not {layer.pruned}")
    if allocation.grid != "mixed" and (layer.offset is None) == (allocation.grid == "survivor"):
        raise CompressionError(f"{where}.offset does not go with grid {allocation.grid}")
    chosen = layer.scheme is not None
    if chosen != (allocation.grid == "mixed") or (not chosen and (layer.levels is not None or layer.group is not None)):
        raise CompressionError(f"{where}.scheme does not go with grid {allocation.grid}")
    if layer.bits < LOWEST_BITS and layer.scheme != "midrise":
        raise CompressionError(f"{where}.bits must be at least {LOWEST_BITS}, not {layer.bits}: its grid has a zero")
    most, levels = 2 ** (layer.bits - 1), layer.levels or ()
    if len(levels) > most or [*levels] != sorted(levels):
        raise CompressionError(f"{where}.levels must be at most {most}, ascending")
    if len({layer.group is None, layer.groups is None, layer.clip is None}) > 1:
        raise CompressionError(f"{where}: group, groups and clip go together")
    if (layer.scales is None) == (allocation.codebook == "channel"):
        raise CompressionError(f"{where}.scales do not go with codebook {allocation.codebook}")
