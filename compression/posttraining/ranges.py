"""Ranges of the units of pairs: r₁ of what produces them, r₂ of what reads them, batch norms counted as if folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compression.posttraining.pairs import Pair, Part, Tensors, kernel_maxima, variance_of, weight_of

Ranges = tuple[tuple[float, float], tuple[float, float]]
UnitRanges = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class Folded:
    """A batch norm behind one layer alone: its channel p scales row ``rows[p]`` of the layer of ``row``."""

    row: Part
    rows: torch.Tensor


def folded_norms(pairs: Sequence[Pair]) -> dict[str, Folded]:
    """Weight of a batch norm → the layer whose rows it scales, where nothing else reads or produces them."""
    result = {}
    for pair in pairs:
        statistics, rows = pair.having("statistics"), pair.having("row")
        alone = len(statistics) == len(rows) == 1 and not pair.columns and not pair.having("scale")
        if alone and len(rows[0].positions) == len(statistics[0].positions) == pair.units == statistics[0].slot.size:
            place = torch.empty(pair.units, dtype=torch.int64)
            place[rows[0].units] = rows[0].positions
            norm = torch.empty(pair.units, dtype=torch.int64)
            norm[statistics[0].positions] = place[statistics[0].units]
            result[weight_of(statistics[0].name)] = Folded(rows[0], norm)
    return result


class RangeTables:
    """Largest magnitudes of every weight over its kernel, rows scaled as by the batch norm behind it: fp64."""

    def __init__(self, pairs: Sequence[Pair], tensors: Tensors) -> None:
        self.tables: dict[str, torch.Tensor] = {}
        for part in (part for pair in pairs for part in pair.having("row", "column")):
            if part.name not in self.tables:
                self.tables[part.name] = kernel_maxima(tensors[part.name], part.slot.view)
        self.folded = folded_norms(pairs)
        for pair in pairs:
            for part in pair.having("scale"):
                self.tables[part.name] = tensors[part.name].detach().abs().cpu().double()
            for part in pair.having("statistics"):
                self._fold(part, tensors)

    def _fold(self, part: Part, tensors: Tensors) -> None:
        """Rows of the effective weight: γ / √(var + eps) times those of the weight."""
        layer = self.folded.get(weight_of(part.name))
        if layer is not None:
            weight, var = (tensors[name(part.name)].detach().cpu().double() for name in (weight_of, variance_of))
            self._multiply(layer, weight.abs() / (var + part.slot.eps).sqrt())

    def _multiply(self, layer: Folded, factors: torch.Tensor) -> None:
        rows = torch.ones(layer.row.slot.size, dtype=torch.float64)
        rows[layer.rows] = factors
        table, slot = self.tables[layer.row.name], layer.row.slot
        table *= rows.reshape([n if d in slot.dims else 1 for d, n in enumerate(slot.view)])

    def producers(self, pair: Pair) -> torch.Tensor:
        """r₁, fp64 [units]: rows of effective weights; of a norm without a layer of its own its weight."""
        result = torch.zeros(pair.units, dtype=torch.float64)
        for part in pair.producers:
            layer = self.folded.get(part.name)
            if layer is None:
                channels = part.per_channel(self.tables[part.name])
            else:
                channels = layer.row.per_channel(self.tables[layer.row.name])[layer.rows]
            result = torch.maximum(result, part.largest(channels, pair.units))
        return result

    def readers(self, pair: Pair) -> torch.Tensor:
        """r₂, fp64 [units]: columns of effective weights."""
        result = torch.zeros(pair.units, dtype=torch.float64)
        for part in pair.columns:
            result = torch.maximum(result, part.largest(part.per_channel(self.tables[part.name]), pair.units))
        return result

    def scale(self, pair: Pair, scales: torch.Tensor) -> None:
        """What :meth:`Pair.scale` does to the ranges."""
        for part in pair.columns:
            self.tables[part.name] *= part.factors(1 / scales)
        for part in pair.producers:
            layer = self.folded.get(part.name)
            if layer is None:
                self.tables[part.name] *= part.factors(scales)
            else:
                self._multiply(layer, part.factors(scales).flatten())


def pair_ranges(pairs: Sequence[Pair], tensors: Tensors) -> list[UnitRanges]:
    """r₁ and r₂ of every pair as the tensors are, fp64 [units]; ``None`` for readers without a weight."""
    tables = RangeTables(pairs, tensors)
    return [(tables.producers(pair), tables.readers(pair) if pair.columns else None) for pair in pairs]
