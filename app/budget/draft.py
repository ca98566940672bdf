"""The draft of the Budget page: one frozen budget in the session, which the address carries (:mod:`.permalink`).

It may hold values that only other methods read, so that one draft can be looked at with several methods;
:func:`requested` is what of it the form shows, and what a run would be started with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import state
from app.model import catalog
from compression import form, methods, zoo
from compression.asks import Ask
from compression.budget import Budget
from compression.form import FEWEST_EPOCHS, LARGEST_SEED, MOST_EPOCHS, requested, shown, values

__all__ = ["FEWEST_EPOCHS", "LARGEST_SEED", "MOST_EPOCHS", "requested", "shown", "values"]

LARGEST_BATCH = 65_536
PLACE = frozenset({"version", "model", "input", "classes", "weights", "data"})  # what the page's subject says
_SHOWN = PLACE | {"method", "asks", "groups", "layers", "options", *form.TRAINING}
_DRAFT, _OPTIONS = "draft", "options_of_other_methods"


def get() -> Budget:
    """The draft; another model starts without bounds of groups and layers."""
    draft: Budget = st.session_state.get(_DRAFT) or initial()
    model = state.get("model")
    if draft.model != model:
        before, usual = zoo.usual(draft.model), zoo.usual(model)
        general = {name: getattr(Budget(), name) for name in before if name not in usual}
        put(draft.replace(groups={}, layers={}, **general, **usual))
        draft = st.session_state[_DRAFT]
    return draft


def initial() -> Budget:
    """The draft of a page that nothing was set on."""
    model = state.get("model")
    return Budget(method=methods.default(), model=model, **zoo.usual(model))


def put(budget: Budget) -> None:
    """Make this budget the draft; model, data and weights stay those of the page."""
    method = methods.get(budget.method).info.name
    place = {"method": method, "input": None, "classes": None, "weights": None, "data": state.DEFAULTS["data"]}
    st.session_state[_DRAFT] = budget.replace(**place, model=state.get("model"))


def change(**fields: Any) -> None:
    """Change fields of the draft.

    Raises:
        CompressionError: a value that cannot be; nothing has changed then.
    """
    put(get().replace(**fields))


def put_asks(values: Mapping[str, Any]) -> None:
    """Set values of asks, by field, in place of what says the same in another way."""
    put(form.with_asks(get(), values))


def method() -> methods.Method:
    """The method of the draft."""
    return methods.get(get().method)


def choose_method(name: str) -> None:
    """Another method for the same draft, with the options that both have. Those of the one before wait until that is
    chosen again.
    """
    draft = get()
    waiting = st.session_state[_OPTIONS] = {**st.session_state.get(_OPTIONS, {}), draft.method: draft.options}
    put(form.with_method(draft, name, waiting.get(name)))


def budget(subject: catalog.ChosenModel) -> Budget:
    """The draft as the budget of a run of this model and data.

    Raises:
        CompressionError: what cannot be.
    """
    budget = requested(get())
    return subject.place(budget) if subject.has_data else budget.replace(model=subject.model)


def extras(budget: Budget) -> dict[str, Any]:
    """Fields that a budget file has set and that no control of the page shows."""
    default, plain = Budget(**zoo.usual(budget.model)).to_dict(), budget.to_dict()
    hidden = {ask.field: ask for ask in methods.get(budget.method).asks if ask.control() is None}
    asks = {name: plain["asks"][name] for name, ask in hidden.items() if name in budget.asks and _is_set(ask, budget)}
    return {name: value for name, value in plain.items() if name not in _SHOWN and value != default.get(name)} | asks


def _is_set(ask: Ask, budget: Budget) -> bool:
    return bool(ask.value(budget.asks) != ask.value({}))


def clear_extras() -> None:
    """Defaults for everything that no control shows, and for the options of all methods."""
    draft, asks = get(), methods.get(get().method).asks
    hidden = {ask.field for ask in asks if ask.control() is None}
    fields = {name: value for name, value in draft if name in _SHOWN and name not in ("options", "version")}
    st.session_state.pop(_OPTIONS, None)
    shown_asks = {name: value for name, value in draft.asks.items() if name not in hidden}
    put(Budget(**{**zoo.usual(draft.model), **fields, "asks": shown_asks}))


def bound(kind: str, name: str, field: str, limits: Any) -> None:
    """Bound one field of a group or layer (``kind``: ``groups`` or ``layers``); ``None`` removes the bound.

    Raises:
        CompressionError: limits that cannot be; nothing has changed then.
    """
    bounds = {each: dict(entry) for each, entry in getattr(get(), kind).items()}
    entry = bounds.setdefault(name, {})
    entry[field] = list(limits) if isinstance(limits, (tuple, list)) else limits
    if limits is None:
        del entry[field]
    change(**{kind: {each: entry for each, entry in bounds.items() if entry}})


def clear_bounds() -> None:
    """Leave all groups and layers to the method."""
    change(groups={}, layers={})
