"""What of a layer or group may be bounded on the Budget page: one row a layer, its fields, and what holds without."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from app import words
from app.budget import draft
from app.model import networks
from compression import methods
from compression.asks import Ask, BitsAsk, Control
from compression.budget import Budget
from compression.forecast import Forecast
from compression.graph import Group

GROUPS, LAYERS = "groups", "layers"  # of a budget


@dataclass(frozen=True)
class BoundField:
    """One bound that can be set: ``field`` of the layer or group ``name`` (``kind`` is ``layers`` or ``groups``).

    ``control`` is the slider; its default holds without a bound. ``pair``: the bound is a range, whose ends are equal
    where the slider has one handle. ``fixed`` says why it cannot be bounded.
    """

    kind: str
    name: str
    field: str
    control: Control
    pair: bool
    fixed: str = ""

    @property
    def key(self) -> str:
        """The key of its slider."""
        return f"bound {self.kind} {self.name} {self.field}"

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.control.low, int)

    @property
    def ranged(self) -> bool:
        """Whether it has two ends to set."""
        return self.control.kind == "range"

    @property
    def bound(self) -> Any:
        """The bound that the draft holds; ``None`` when there is none."""
        return getattr(draft.get(), self.kind).get(self.name, {}).get(self.field)

    @property
    def shown(self) -> Any:
        """What a slider shows: the bound, else what holds without one; within the slider's limits."""
        bound, default = self.bound, self.control.default
        if not self.ranged and isinstance(bound, (list, tuple)):
            bound = min(max(default, bound[0]), bound[1])
        value = default if bound is None else bound
        return tuple(map(self._within, value)) if self.ranged else self._within(value)

    def stored(self, value: Any) -> Any:
        """The value of a slider as the budget holds it."""
        if self.ranged:
            return list(value)
        return [value, value] if self.pair else value

    def _within(self, value: float) -> float:
        number = int(value) if self.whole else float(value)
        return min(max(number, self.control.low), self.control.high)


@dataclass(frozen=True)
class BoundRow:
    """A layer (or a group that no layer's outputs belong to) with the fields that can be bounded.

    ``planned``: its forecast size; ``shared``: the layer whose row has the bound of their common group.
    """

    name: str
    group: str
    planned: str
    fields: tuple[BoundField, ...]
    shared: str = ""

    @property
    def bounded(self) -> bool:
        """Whether anything of it is bounded."""
        return any(field.bound is not None for field in self.fields)


def rows(network: networks.Network, budget: Budget, forecast: Forecast | None) -> list[BoundRow]:
    """Every layer in the order of the network; a group's bound is in the row of its first layer."""
    asks = methods.get(budget.method).asks
    of_groups = [ask for ask in asks if ask.group_bound]
    sizes = {each.name: words.between(each.low_bytes, each.high_bytes, words.size) for each in _layers(forecast)}
    zeros = {each.name: each.zeros / math.prod(each.shape) for each in _layers(forecast) if each.allocation}
    first: dict[str, str] = {}
    result = []
    for layer in network.graph.layers:
        group = network.group_of_layer.get(layer.name, "") if of_groups else ""
        fields = [_of_group(network.graph.group(group), ask) for ask in of_groups if group and group not in first]
        fields += _of_layer(layer.name, budget, asks, zeros.get(layer.name))
        shared = first.get(group, "")
        first.setdefault(group, layer.name)
        planned = sizes.get(layer.name, "")
        result.append(BoundRow(layer.name, network.group_of_layer.get(layer.name, ""), planned, tuple(fields), shared))
    rest = [group for group in network.graph.prunable if group.id not in first]
    return result + [BoundRow(g.id, g.id, "", tuple(_of_group(g, ask) for ask in of_groups)) for g in rest if of_groups]


def _layers(forecast: Forecast | None) -> tuple[Any, ...]:
    return forecast.layers if forecast is not None else ()


def _of_group(group: Group, ask: Ask) -> BoundField:
    """The bound of a group: one channel stays, and the slider moves by whole channels."""
    fixed = "" if group.prunable else f"Its channels must stay: {group.reason}."
    if group.prunable and group.units < 2:
        fixed = "Its only channel must stay."
    most = 1.0 if fixed else (group.units - 1) / group.units
    default = (0.0, 0.0 if fixed else most)
    control = Control("range", "sparsity", 0.0, most, 1 / group.units, default)
    return BoundField(GROUPS, group.id, ask.group_bound, control, True, fixed)


def _of_layer(layer: str, budget: Budget, asks: tuple[Ask, ...], zeros: float | None) -> list[BoundField]:
    """The bounds of a layer; the share of its zeros that the forecast says is what holds without a bound."""
    fields = []
    for ask in asks:
        value = ask.value(budget.asks)
        control = ask.bound_control(value) if ask.layer_bound and value is not None else None
        if control is not None:
            share = zeros if zeros is not None and not isinstance(ask, BitsAsk) else control.default
            control = Control(control.kind, control.label, control.low, control.high, control.step, share)
            fields.append(BoundField(LAYERS, layer, ask.layer_bound, control, isinstance(ask, BitsAsk)))
    return fields


def put(field: BoundField, bound: Any) -> None:
    """Set a bound, or with ``None`` leave it to the method; impossible values change nothing.

    Raises:
        CompressionError: in one line why it cannot be.
    """
    draft.bound(field.kind, field.name, field.field, bound)
