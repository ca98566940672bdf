"""What an allocation is: each layer's zeros, bits and step, and what they cost; as plain JSON and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression.errors import CompressionError
from compression.quant.json_fields import Fields
from compression.reading import short


@dataclass(frozen=True)
class LayerAllocation:
    """What one layer gets.

    ``threshold`` is the largest pruned magnitude; ``error`` is Σ (w - ŵ)² of the layer, measured on its weights, of
    which ``pruning_error`` is the part of the pruned ones. Levels are ±k·``step``, k = 1..Q with Q = 2^(bits - 1) - 1;
    where ``offset`` is set they are ±(offset + (k - 1/2)·step). Where there are ``scales``, one for each output channel
    along dimension ``axis`` of the weight, a channel's step is ``step`` times its scale.
    """

    name: str
    numel: int
    pruned: int
    threshold: float
    bits: int
    step: float
    error: float
    pruning_error: float
    offset: float | None = None
    scales: tuple[float, ...] | None = None
    axis: int = 0

    @property
    def floats(self) -> int:
        """How many fp32 numbers are stored beside the codes."""
        return len(self.scales) if self.scales is not None else 1 + (self.offset is not None)

    @classmethod
    def from_dict(cls, raw: Any, where: str) -> LayerAllocation:
        """A layer from plain JSON values; ``where`` names it in what is said about a mistake.

        Raises:
            CompressionError: naming the field.
        """
        fields = Fields(raw, where)
        numel = fields.whole("numel", 1)
        found = cls(
            name=fields.word("name"),
            numel=numel,
            pruned=fields.whole("pruned", 0, numel),
            threshold=fields.number("threshold", 0.0),
            bits=fields.whole("bits", 2, 16),
            step=fields.number("step", math.ulp(0.0)),
            error=fields.number("error", 0.0),
            pruning_error=fields.number("pruning_error", 0.0),
            offset=None if fields.absent("offset") else fields.number("offset", 0.0),
            scales=None if fields.absent("scales") else fields.numbers("scales", math.ulp(0.0)),
            axis=0 if fields.absent("axis") else fields.whole("axis", 0),
        )
        fields.finish()
        return found


@dataclass(frozen=True)
class Allocation:
    """OPQ's answer to a budget. ``exact``: best steps searched on the weights, and the bits proven optimal for them.

    ``gap`` bounds how far the bits' error may be above the optimum (relative, 0 when proven); ``value_bits`` never
    exceeds ``budget_bits``; ``notes`` says in words where the budget could not be followed to the letter.
    """

    sparsity: float
    bits: float
    layers: tuple[LayerAllocation, ...]
    pruned: int
    numel: int
    value_bits: int
    budget_bits: int
    exact: bool
    gap: float = 0.0
    zeros: str = "exact"
    grid: str = "plain"
    codebook: str = "layer"
    notes: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """Σ (w - ŵ)² over all layers."""
        return sum(layer.error for layer in self.layers)

    def to_dict(self, model: str | None = None, weights: str | None = None) -> dict[str, Any]:
        """Plain JSON values; ``model`` and ``weights`` name what was allocated on."""
        plain = dataclasses.asdict(self)
        plain["layers"], plain["notes"] = list(plain["layers"]), list(plain["notes"])
        for layer in plain["layers"]:
            layer["scales"] = None if layer["scales"] is None else list(layer["scales"])
        return {"model": model, "weights": weights, **plain, "error": self.error}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Allocation:
        """What :meth:`to_dict` gave, of this version or an earlier one.

        Raises:
            CompressionError: an unknown or missing field, an impossible value, or sums that are not those of the
                layers; the field is named.
        """
        fields = Fields(raw, "allocation")
        fields.ignore("model", "weights", "error")
        layers = [
            LayerAllocation.from_dict(each, f"allocation.layers[{i}]") for i, each in enumerate(fields.rows("layers"))
        ]
        found = cls(
            sparsity=fields.number("sparsity", 0.0, 1.0),
            bits=fields.number("bits", 2.0, 16.0),
            layers=tuple(layers),
            pruned=fields.whole("pruned", 0),
            numel=fields.whole("numel", 1),
            value_bits=fields.whole("value_bits", 0),
            budget_bits=fields.whole("budget_bits", 0),
            exact=fields.flag("exact"),
            gap=fields.number("gap", 0.0, absent=0.0),
            zeros=fields.word("zeros", ("exact", "rounded"), absent="exact"),
            grid=fields.word("grid", ("plain", "survivor"), absent="plain"),
            codebook=fields.word("codebook", ("layer", "channel"), absent="layer"),
            notes=tuple(str(note) for note in fields.rows("notes", absent=())),
        )
        fields.finish()
        _check_whole(found)
        return found


def _check_whole(found: Allocation) -> None:
    """Refuse an allocation whose parts do not fit each other."""
    names: set[str] = set()
    wanted = {
        "pruned": sum(layer.pruned for layer in found.layers),
        "numel": sum(layer.numel for layer in found.layers),
        "value_bits": sum((layer.numel - layer.pruned) * layer.bits for layer in found.layers),
    }
    for field, total in wanted.items():
        if getattr(found, field) != total:
            raise CompressionError(f"allocation.{field} is {getattr(found, field)}, its layers add up to {total}")
    if found.budget_bits < found.value_bits:
        raise CompressionError(f"allocation.budget_bits must be at least the value_bits, {found.value_bits}")
    for i, layer in enumerate(found.layers):
        if layer.name in names:
            raise CompressionError(f"allocation.layers: {short(layer.name)} is there twice")
        names.add(layer.name)
        if (layer.offset is None) == (found.grid == "survivor"):
            raise CompressionError(f"allocation.layers[{i}].offset does not go with grid {found.grid}")
        if (layer.scales is None) == (found.codebook == "channel"):
            raise CompressionError(f"allocation.layers[{i}].scales do not go with codebook {found.codebook}")
