"""What a budget comes to before anything is trained: sizes, work and error, layer by layer, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

    from compression.counting.cost import Cost
    from compression.graph import Graph
    from compression.quant.allocation import Allocation
    from compression.quant.tables import LayerTables

Certainty = Literal["exact", "even", "unknown"]
"""``exact``: computed on the weights; ``even``: counted as if every group lost the same share; ``unknown``: nothing."""


class Subject:
    """What forecasts are made for: a traced network and its weights. Tables of the weights are prepared once."""

    def __init__(self, model: nn.Module, graph: Graph, trained: bool = True) -> None:
        """``trained``: whether the weights are trained ones; on others a forecast is a rough guide only."""
        self.model, self.graph, self.trained = model, graph, trained
        self._energies: dict[str, float] | None = None
        self._tables: dict[tuple[tuple[str, ...], bool], LayerTables] = {}

    def tables(self, skip: Collection[str] = (), channels: bool = False) -> LayerTables:
        """Sorted weights of all layers but those in ``skip``: :meth:`compression.quant.tables.LayerTables.prepare`."""
        from compression.quant.tables import LayerTables

        key = (tuple(sorted(skip)), channels)
        if key not in self._tables:
            self._tables[key] = LayerTables.prepare(self.model, key[0], channels)
        return self._tables[key]

    def relative_error(self, allocation: Allocation) -> float:
        """Σ(w - ŵ)² of an allocation over Σw² of the same layers."""
        from compression.quant.tables import layer_weights

        if self._energies is None:
            self._energies = {name: float(w.double().square().sum()) for name, w in layer_weights(self.model).items()}
        return allocation.error / (sum(self._energies[layer.name] for layer in allocation.layers) or 1.0)


@dataclass(frozen=True)
class LayerForecast:
    """One layer: bytes of its weight dense and at the least and the most bits (equal where the bits are decided)."""

    name: str
    dense_bytes: float
    low_bytes: float
    high_bytes: float
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Forecast:
    """What a method says of a budget.

    ``low`` and ``high`` are the cost at the least and the most bits; ``bytes`` the (least, most) size of the weights
    file; ``removed``: group id → units; ``error``: Σ(w - ŵ)² relative to Σw², where it is known before training;
    ``notes`` say where the budget cannot be followed to the letter, or why nothing is known.
    """

    certainty: Certainty
    dense: Cost | None = None
    low: Cost | None = None
    high: Cost | None = None
    bytes: tuple[float, float] | None = None
    removed: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[LayerForecast, ...] = ()
    error: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def unknown(cls, why: str) -> Forecast:
        """Nothing is known before the run; ``why`` is one sentence."""
        return cls("unknown", notes=(why,))
