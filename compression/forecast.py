"""What a budget comes to before anything is trained: sizes, work and error, layer by layer, and how sure that is.

Two ways serve most methods: :func:`allocation_forecast`, where zeros, bits and steps follow from the trained weights,
and :func:`even_pruning_forecast`, where training decides which units are removed and an even share is counted.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from compression.asks import BitsAsk, Pair
from compression.budget import Budget
from compression.errors import CompressionError
from compression.representation import Represented

if TYPE_CHECKING:
    from torch import nn

    from compression.counting.cost import Cost
    from compression.graph import Graph
    from compression.pruning.choose import UnitLimits
    from compression.pruning.target import UnitTarget
    from compression.quant.allocation import Allocation, LayerAllocation
    from compression.quant.tables import LayerTables

FLOAT_BYTES = 4
Certainty = Literal["exact", "even", "bound", "unknown"]
"""``exact``: computed on the weights; ``even``: counted as if every group lost the same share; ``bound``: what the size
will not exceed, and hardly stay below; ``unknown``: nothing."""


class Subject:
    """What forecasts are made for: a traced network and its weights. Tables of the weights are prepared once."""

    def __init__(self, model: nn.Module | None, graph: Graph) -> None:
        """``model`` is ``None`` only for a subclass that loads it where it is asked for."""
        self._model, self.graph = model, graph
        self._energies: dict[str, float] = {}
        self._tables: dict[tuple[tuple[str, ...], bool], LayerTables] = {}
        self._derived: dict[str, Subject] = {}

    @property
    def model(self) -> nn.Module:
        """The network with its weights."""
        assert self._model is not None
        return self._model

    def tables(self, skip: Collection[str] = (), channels: bool = False) -> LayerTables:
        """Sorted weights of all layers but those in ``skip``: :meth:`compression.quant.tables.LayerTables.prepare`."""
        key = (tuple(sorted(skip)), channels)
        if key not in self._tables:
            tables = self._tables[key] = self.prepare_tables(*key)
            self._energies |= {table.name: float(table.second[-1]) for table in tables.layers}
        return self._tables[key]

    def prepare_tables(self, skip: tuple[str, ...], channels: bool) -> LayerTables:
        """Make the tables of :meth:`tables`; a server overrides this to keep them in memory that it bounds."""
        from compression.quant.tables import LayerTables

        return LayerTables.prepare(self.model, skip, channels)

    def derived(self, key: str, change: Callable[[nn.Module], None]) -> Subject:
        """The subject of a copy of the network with ``change`` made to its weights, made once for each ``key``.

        A server overrides this to keep it in memory that it bounds.
        """
        if key not in self._derived:
            self._derived[key] = self.changed(change)
        return self._derived[key]

    def changed(self, change: Callable[[nn.Module], None]) -> Subject:
        """The subject of a copy of the network with ``change`` made to its weights."""
        from compression.graph import deep_copy

        model = deep_copy(self.model)
        change(model)
        return Subject(model, self.graph)

    def relative_error(self, allocation: Allocation) -> float:
        """Σ(w - ŵ)² of an allocation over Σw² of the same layers."""
        from compression.quant.tables import layer_weights

        names = [layer.name for layer in allocation.layers]
        if not self._energies.keys() >= set(names):  # allocated without the tables
            weights = {name: weight.cpu().double() for name, weight in layer_weights(self.model).items()}
            self._energies |= {name: float(weight.square().sum()) for name, weight in weights.items()}
        return allocation.error / (sum(self._energies[name] for name in names) or 1.0)


@dataclass(frozen=True)
class LayerForecast:
    """One layer: bytes of its weight dense, and at the least and the most bits (equal where the bits are decided).

    Steps, zero points and tables of the weight are in the bytes, so that with the other parameters they are the total.
    ``shape`` is that of the weight, ``kept_shape`` without the removed units; ``bits`` the least and most bit-width;
    ``zeros`` how many single weights are set to zero. ``allocation`` has step and error where they are known.
    """

    name: str
    dense_bytes: float
    low_bytes: float
    high_bytes: float
    shape: tuple[int, ...]
    kept_shape: tuple[int, ...]
    bits: Pair
    zeros: int = 0
    allocation: LayerAllocation | None = None


@dataclass(frozen=True, repr=False)
class Forecast(Represented):
    """What a method says of a budget.

    ``low`` and ``high`` are the cost at the least and the most bits; ``bytes`` the (least, most) size of the weights
    file; ``removed``: group id → units; ``error``: Σ(w - ŵ)² relative to Σw², where it is known before training;
    ``notes`` say where the budget cannot be followed to the letter, or why nothing is known.
    """

    certainty: Certainty
    dense: Cost | None = None
    low: Cost | None = None
    high: Cost | None = None
    bytes: Pair | None = None
    removed: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[LayerForecast, ...] = ()
    error: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def unknown(cls, why: str) -> Forecast:
        """Nothing is known before the run; ``why`` is one sentence."""
        return cls("unknown", notes=(why,))

    @property
    def bytes_kind(self) -> Literal["nominal", "ideal", "coded"] | None:
        """How ``bytes`` are counted.

        ``nominal``: weights at their bits, 4 bytes a float; ``ideal``: with positions of zeros as an ideal coder writes
        them; ``coded``: with codes as the packed file holds them; ``None``: unknown.
        """
        if self.bytes is None or self.low is None or self.high is None:
            return None
        if any(layer.allocation is not None and layer.allocation.coded for layer in self.layers):
            return "coded"
        ends = zip(self.bytes, (self.low.nominal_bytes, self.high.nominal_bytes), strict=True)
        return "nominal" if all(math.isclose(*end) for end in ends) else "ideal"

    @property
    def units(self) -> int:
        """How many units are removed."""
        return sum(self.removed.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; ``None`` for what is unknown."""
        plain = {**dataclasses.asdict(self), "bytes_kind": self.bytes_kind}
        return {**plain, "bytes": list(self.bytes) if self.bytes else None, "notes": list(self.notes)}


def allocation_forecast(
    subject: Subject,
    budget: Budget,
    allocation: Allocation,
    activation_bits: BitsAsk | None = None,
    notes: Sequence[str] = (),
) -> Forecast:
    """What an allocation comes to: values and positions of zeros as an ideal coder writes them, the rest in fp32.

    Layers whose codes the allocation has coded already take as many bytes as that gave.

    ``activation_bits``: how the method asks for the bits of activations, if it does; ``notes``: the method's own.
    """
    from compression.counting.cost import cost

    graph = subject.graph
    widths = {layer.name: _limits(activation_bits, budget, layer.name) for layer in allocation.layers}
    bits = {layer.name: (float(layer.bits), widths[layer.name][0]) for layer in allocation.layers}
    counted = cost(graph, {}, bits)  # one number a layer beside its codes; scales and offsets are more
    more = FLOAT_BYTES * sum(each.floats - 1 for each in allocation.layers)
    counted = dataclasses.replace(counted, nominal_bytes=counted.nominal_bytes + more)
    shapes = {layer.name: tuple(layer.shape) for layer in graph.layers}
    layers = []
    for each in allocation.layers:
        ideal = (each.numel - each.pruned) * each.bits / 8 + _position_bytes(each.numel, each.pruned)
        size = (ideal if each.coded is None else float(each.coded)) + FLOAT_BYTES * each.floats
        shape = shapes.get(each.name, (each.numel,))
        ends = (float(each.bits), float(each.bits))
        layers.append(
            LayerForecast(each.name, FLOAT_BYTES * each.numel, size, size, shape, shape, ends, each.pruned, each)
        )
    total = sum(layer.low_bytes for layer in layers) + FLOAT_BYTES * (graph.params - allocation.numel)
    return Forecast(
        certainty="exact",
        dense=cost(graph),
        low=counted,
        high=counted,
        bytes=(total, total),
        layers=tuple(layers),
        error=subject.relative_error(allocation),
        notes=(*allocation.notes, *notes),
    )


def even_pruning_forecast(
    subject: Subject,
    budget: Budget,
    weight_bits: BitsAsk,
    activation_bits: BitsAsk | None = None,
    *,
    channel_steps: bool = False,
) -> Forecast:
    """What a budget removes, spread evenly over groups within their bounds; bits at both ends of what a layer may get.

    Which units are removed is decided while the run goes, so sizes and MACs are those of an even choice.

    Args:
        weight_bits, activation_bits: how the method asks for bits; no activation bits: fp32.
        channel_steps: each output channel has a step of its own, 4 bytes each.

    Raises:
        CompressionError: bounds that no choice of units satisfies, or that name what this network does not have.
    """
    from compression.counting.cost import cost, inputs_in_float, output_axes, remaining_shapes
    from compression.pruning.target import unit_target

    graph = subject.graph
    _check_layers(graph, budget)
    in_float = inputs_in_float(graph)
    target = unit_target(graph, budget, weight_bits, activation_bits)
    removed = spread_units(graph, target, budget.groups)
    steps = output_axes(graph) if channel_steps else {}
    weights = {layer.name: _limits(weight_bits, budget, layer.name) for layer in graph.layers}
    inputs = {
        layer.name: _limits(None if layer.name in in_float else activation_bits, budget, layer.name)
        for layer in graph.layers
    }
    low, high = (
        cost(graph, removed, {name: (weights[name][end], inputs[name][end]) for name in weights}, steps)
        for end in (0, 1)
    )
    shapes = remaining_shapes(graph, removed)
    layers = []
    for layer in graph.layers:
        least, most = (bits if bits is not None else 32.0 for bits in weights[layer.name])
        remaining = math.prod(shapes[layer.weight])
        dense = FLOAT_BYTES * math.prod(layer.shape)
        scales = shapes[layer.weight][steps[layer.name]] if layer.name in steps else 1
        beside = 0 if weights[layer.name][0] is None else FLOAT_BYTES * scales  # steps are stored for quantized weights
        sizes = (dense, remaining * least / 8 + beside, remaining * most / 8 + beside)
        layers.append(LayerForecast(layer.name, *sizes, tuple(layer.shape), shapes[layer.weight], (least, most)))
    return Forecast(
        certainty="even",
        dense=cost(graph),
        low=low,
        high=high,
        bytes=(low.nominal_bytes, high.nominal_bytes),
        removed=removed,
        layers=tuple(layers),
    )


def spread_units(graph: Graph, target: UnitTarget, groups: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The units of ``target`` over the prunable groups: the same share for all, except where a bound or rounding asks.

    Raises:
        CompressionError: the bounds cannot give them.
    """
    from compression.pruning.choose import UnitLimits, unit_bounds
    from compression.pruning.target import CostShare, UnitCount

    limits = UnitLimits.from_groups(graph.prunable, unit_bounds(groups))
    target.check(limits)
    if isinstance(target, UnitCount):
        counts = _spread(graph, limits, target.units)
    else:
        assert isinstance(target, CostShare)
        numbers = range(sum(limits.lowest), sum(limits.highest) + 1)
        number = bisect_left(numbers, True, key=lambda number: target.reached(_spread(graph, limits, number)))
        counts = _spread(graph, limits, numbers[number])
    return {group.id: count for group, count in zip(graph.prunable, counts, strict=True)}


def _spread(graph: Graph, limits: UnitLimits, number: int) -> list[int]:
    """How many of ``number`` units each prunable group gives."""
    counts, sizes = list(limits.lowest), [group.units for group in graph.prunable]
    # the group whose share is lowest gives the next unit, among equals the largest
    waiting = [(counts[i] / sizes[i], -sizes[i], i) for i in range(len(counts)) if counts[i] < limits.highest[i]]
    heapq.heapify(waiting)
    for _ in range(number - sum(counts)):
        _, _, i = heapq.heappop(waiting)
        counts[i] += 1
        if counts[i] < limits.highest[i]:
            heapq.heappush(waiting, (counts[i] / sizes[i], -sizes[i], i))
    return counts


def _limits(ask: BitsAsk | None, budget: Budget, layer: str) -> tuple[float | None, float | None]:
    """The least and the most bits of a layer; ``None``: fp32."""
    limits = None if ask is None else ask.layer_limits(budget.asks, budget.layers, layer)
    return limits or (None, None)


def _check_layers(graph: Graph, budget: Budget) -> None:
    names = {layer.name for layer in graph.layers}
    for name in budget.layers:
        if name not in names:
            raise CompressionError(f"layers: {budget.model} has no layer {name!r}; remove this bound")


def _position_bytes(numel: int, zeros: int) -> float:
    """Bytes that an ideal coder needs to say which weights are zero."""
    share = zeros / numel if numel else 0.0
    if share in (0.0, 1.0):
        return 0.0
    return -numel * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8
