"""What of a layer or group may be bounded on the Budget page: one row per layer, its fields, and what holds without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app import words
from app.budget import draft, method_catalog
from app.model import networks
from compression.bounds import HIGHEST_BITS, LOWEST_BITS
from compression.budget import Budget
from compression.graph import Group

if TYPE_CHECKING:
    from app.budget.planned import Plan

PAIR, ONE, SAME = "pair", "one", "same"
BITS = (LOWEST_BITS, HIGHEST_BITS)


@dataclass(frozen=True)
class Field:
    """One bound that can be set: ``field`` of the layer or group ``name`` (``kind`` is ``layers`` or ``groups``).

    ``form``: a range of two ends (``pair``), one number (``one``), or one number that is kept as a range of equal ends
    (``same``). ``follows`` is what holds without a bound; ``fixed`` says why it cannot be bounded; ``step`` is that of
    shares: one unit of a group.
    """

    kind: str
    name: str
    field: str
    title: str
    form: str
    limits: tuple[Any, Any]
    follows: Any
    fixed: str = ""
    step: float = 0.01

    @property
    def key(self) -> str:
        """The key of its slider."""
        return f"bound {self.kind} {self.name} {self.field}"

    @property
    def whole(self) -> bool:
        """Are its values whole numbers?"""
        return isinstance(self.limits[0], int)

    @property
    def bound(self) -> Any:
        """The bound as the budget holds it; ``None`` when there is none."""
        return draft.bounds()[self.kind].get(self.name, {}).get(self.field)

    @property
    def shown(self) -> Any:
        """What a slider shows: the bound, else what holds without one; within the slider's limits."""
        set_now = self.bound
        if self.form != PAIR and isinstance(set_now, (list, tuple)):
            set_now = min(max(self.follows, set_now[0]), set_now[1])
        return self._typed(self.follows if set_now is None else set_now)

    def kept(self, value: Any) -> Any:
        """The value of a slider as the budget holds it."""
        if self.form == SAME:
            return [value, value]
        return list(value) if self.form == PAIR else value

    def _typed(self, value: Any) -> Any:
        kind, (low, high) = type(self.limits[0]), self.limits
        if self.form == PAIR:
            return tuple(min(max(kind(end), low), high) for end in value)
        return min(max(kind(value), low), high)


@dataclass(frozen=True)
class Row:
    """A layer (or a group that no layer's outputs belong to) with the fields that can be bounded."""

    name: str
    group: str
    planned: str
    fields: tuple[Field, ...]
    shared: str = ""

    @property
    def bounded(self) -> bool:
        """Is anything of it bounded?"""
        return any(field.bound is not None for field in self.fields)


def rows(found: networks.Network, budget: Budget, planned: Plan | None) -> list[Row]:
    """Every layer in the order of the network; a group's sparsity is in the row of its first layer."""
    method, sizes = method_catalog.get(budget.method), _sizes(planned)
    shares = {row["layer"]: row.get("at zero, %", 0.0) / 100 for row in planned.table} if planned else {}
    seen: dict[str, str] = {}
    made = []
    for layer in found.graph.layers:
        group = found.group_of_layer.get(layer.name, "")
        fields: list[Field] = []
        if method.structured and group and group not in seen:
            fields.append(_of_group(found.graph.group(group)))
        elif method.uses.sparsity and not method.structured:
            limits = (0.0, draft.HIGHEST_SPARSITY)
            share = shares.get(layer.name, budget.sparsity)
            fields.append(Field("layers", layer.name, "sparsity", "sparsity", ONE, limits, share))
        fields += _bits(layer.name, budget, method.uses.bits)
        shared = seen.get(group, "") if method.structured else ""
        seen.setdefault(group, layer.name)
        made.append(Row(layer.name, group, sizes.get(layer.name, ""), tuple(fields), shared))
    if method.structured:
        rest = [group for group in found.graph.prunable if group.id not in seen]
        made += [Row(group.id, group.id, "", (_of_group(group),)) for group in rest]
    return made


def _of_group(group: Group) -> Field:
    fixed = "" if group.prunable else f"Its channels must stay: {group.reason}."
    if group.prunable and group.units < 2:
        fixed = "Its only channel must stay."
    most = 1.0 if fixed else (group.units - 1) / group.units  # one channel stays
    follows = (0.0, 0.0) if fixed else (0.0, most)
    return Field("groups", group.id, "sparsity", "sparsity", PAIR, (0.0, most), follows, fixed, 1 / group.units)


def _bits(layer: str, budget: Budget, kind: str) -> list[Field]:
    from compression.methods.widths import equal_bits

    form = SAME if kind == "equal" else PAIR
    follows: Any = budget.weight_bits if kind == "range" else BITS
    if form == SAME:
        follows = equal_bits(budget, method_catalog.get(budget.method).structured)
    fields = [Field("layers", layer, "weight_bits", "bits", form, BITS, follows)]
    if budget.activation_bits is not None:
        acts: Any = budget.activation_bits[1] if form == SAME else budget.activation_bits
        fields.append(Field("layers", layer, "activation_bits", "activation bits", form, BITS, acts))
    return fields


def _sizes(planned: Plan | None) -> dict[str, str]:
    layers = planned.layers if planned else ()
    return {plan.layer: words.between(plan.low, plan.high, words.size) for plan in layers}


def put(field: Field, bound: Any) -> None:
    """Set a bound, or with ``None`` leave it to the method; impossible values change nothing.

    Raises:
        CompressionError: in one line why it cannot be.
    """
    if bound is not None:
        entry: Mapping[str, Any] = {field.name: {field.field: bound}}
        Budget(groups=entry) if field.kind == "groups" else Budget(layers=entry)
    draft.bound(field.kind, field.name, field.field, bound)
