"""A budget as a form has it: what its controls show, what a person changes, and what a run would be started with.

Pages and notebook panels share it. The budget being edited, the draft, may hold values that only other methods read, so
that one draft can be looked at with several methods; :func:`requested` is what of it the form shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compression import methods, zoo
from compression.asks import HIGHEST_SPARSITY, UNITS, Ask, Sparsity, in_place_of_others
from compression.budget import Budget
from compression.errors import CompressionError

if TYPE_CHECKING:
    from compression.graph import Graph

FEWEST_EPOCHS, MOST_EPOCHS = 0.01, 1000.0
LARGEST_SEED = 2**53 - 1  # what a browser counts exactly
TRAINING = ("epochs", "seed", "lr", "batch_size", "optimizer")
"""Fields of a draft that only runs which train read."""
Bounds = Mapping[str, Mapping[str, Any]]


def shown(ask: Ask, asks: Mapping[str, Any]) -> Any:
    """The value of an ask as its control shows it: the ends of a range of whole numbers are whole.

    Raises:
        CompressionError: a value that the ask cannot have.
    """
    value, control = ask.value(asks), ask.control()
    if control is None or control.kind != "range" or value is None or control.step < 1:
        return value
    return math.ceil(value[0]), math.floor(value[1])


def values(budget: Budget) -> dict[str, Any]:
    """Field → value of every ask of the budget's method that has a control."""
    asks = methods.get(budget.method).asks
    return {ask.field: shown(ask, budget.asks) for ask in asks if ask.control() is not None}


def in_percent(ask: Ask) -> bool:
    """Whether a control shows the value of this ask, a share in 0..1, as a percentage."""
    return isinstance(ask, Sparsity) or bool(ask.excludes)


def with_asks(draft: Budget, changed: Mapping[str, Any]) -> Budget:
    """The draft with values of asks, by field, in place of what says the same in another way.

    Raises:
        CompressionError: a value that cannot be.
    """
    asks = dict(draft.asks)
    for field in changed:
        asks = in_place_of_others(asks, field)
    return draft.replace(asks={**asks, **changed})


def with_method(draft: Budget, name: str, options: Mapping[str, Any] | None = None) -> Budget:
    """The draft for another method, with ``options`` of it (default: those that both methods have).

    Raises:
        CompressionError: there is no such method.
    """
    source, target = methods.get(draft.method), methods.get(name)
    converted = target.convert(draft, source)
    try:
        target.values(draft)
    except CompressionError:  # a form that only its own method reads, or a value that only this one reaches
        asks = {**draft.asks, **source.values(draft)}
        draft = draft.replace(asks={**asks, **{ask.field: ask.nearest(asks) for ask in target.asks}})
    chosen = converted.options if options is None else options
    return draft.replace(method=target.info.name, options=chosen, layers=converted.layers)


def requested(draft: Budget) -> Budget:
    """What the form shows of a draft: what its method reads, and defaults for whatever is not shown.

    Raises:
        CompressionError: a value that the method cannot have.
    """
    method = methods.get(draft.method)
    hidden = {ask.field: draft.asks[ask.field] for ask in method.asks if ask.field in draft.asks}
    active = [ask for ask in method.asks if ask.excludes or ask.value(draft.asks) is not None]
    default = Budget(**zoo.usual(draft.model))
    training = {} if method.trains(draft) else {name: getattr(default, name) for name in TRAINING}
    return draft.replace(
        asks={**hidden, **values(draft)},
        groups=_only(draft.groups, {ask.group_bound for ask in active}),
        layers=_only(draft.layers, {ask.layer_bound for ask in active}),
        **training,
    )


def _only(bounds: Bounds, fields: set[str]) -> Bounds:
    read = {name: {f: value for f, value in entry.items() if f in fields} for name, entry in bounds.items()}
    return {name: entry for name, entry in read.items() if entry}


def sparsity_ends(graph: Graph, draft: Budget, ask: Sparsity) -> tuple[float, float, bool]:
    """The least and the most sparsity that a network and the draft's bounds leave, as shares, and whether bounds narrow
    it; everything where the bounds contradict each other, which the forecast then says.
    """
    from compression.pruning.reach import reach

    try:
        room = reach(graph, draft.groups, draft.layers, ask.target == UNITS)
    except CompressionError:
        return 0.0, HIGHEST_SPARSITY, True
    low, high = room.ends
    return min(low, HIGHEST_SPARSITY), min(high, HIGHEST_SPARSITY), room.bounded
