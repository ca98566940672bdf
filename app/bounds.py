"""The editor for one layer's bounds on the Budget page: what the method may do with it and with its group."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import catalog
from app import draft
from app import offer
from app import state
from app import widgets
from app import words
from compression.budget import HIGHEST_BITS
from compression.budget import LOWEST_BITS
from compression.budget import Budget
from compression.graph import Group


def editor(found: catalog.Traced, budget: Budget) -> None:
    """Pick a layer, bound it, and see all bounds in one table."""
    st.subheader("Bound a layer or group", anchor=False)
    st.caption("What is not bounded is left to the method. Bounds hold in every run started from here.")
    left, right = st.columns([2, 3], gap="large")
    with left:
        layer = _pick(found)
        method = offer.get(budget.method)
        if method.structured:
            _group_field(found, layer, budget)
        elif method.uses.sparsity:
            _field(
                "layers", layer, "sparsity", "Fix this layer's sparsity", budget.sparsity, (0.0, draft.HIGHEST_SPARSITY)
            )
        default = budget.weight_bits if method.uses.bits == "range" else (LOWEST_BITS, 8)
        _field("layers", layer, "weight_bits", "Bound this layer's bits", default, (LOWEST_BITS, HIGHEST_BITS))
        if budget.activation_bits is not None:
            limits = (LOWEST_BITS, HIGHEST_BITS)
            _field("layers", layer, "activation_bits", "Bound its activation bits", budget.activation_bits, limits)
    with right:
        _overview(budget)


def _pick(found: catalog.Traced) -> str:
    layers = [layer.name for layer in found.graph.layers]
    key = f"bound layer {state.get('model')}"
    if st.session_state.get(key) not in layers:
        wanted = [layer for layer in layers if found.group_of_layer.get(layer) == state.get("group")]
        st.session_state[key] = (wanted or layers)[0]
    return st.selectbox("Layer", layers, key=key) or layers[0]


def _group_field(found: catalog.Traced, layer: str, budget: Budget) -> None:
    group_id = found.group_of_layer.get(layer)
    if group_id is None:
        st.caption("This layer's outputs belong to no group: no channel of it can go.")
        return
    group = found.graph.group(group_id)
    fixed = None if group.prunable else f"Its channels must stay: {group.reason}."
    default = (0.0, 1.0) if budget.groups.get(group_id) is None else budget.groups[group_id]["sparsity"]
    _field("groups", group_id, "sparsity", "Bound how much of its group goes", default, (0.0, 1.0), disabled=fixed)
    st.caption(fixed or _shared(found, group, layer))


def _shared(found: catalog.Traced, group: Group, layer: str) -> str:
    others = [name for name, owner in found.group_of_layer.items() if owner == group.id and name != layer]
    tied = f", shared with {', '.join(others)}" if others else ""
    return f"Group {group.id}: {words.plural(group.units, 'unit')}{tied}."


def _field(
    kind: str, name: str, field: str, label: str, default: Any, limits: tuple[Any, Any], disabled: str | None = None
) -> None:
    """A toggle that bounds one field, and the slider that says how; what is off follows the method."""
    key = f"bound {kind} {name} {field}"
    set_now = draft.bounds()[kind].get(name, {}).get(field)
    if f"{key} on" not in st.session_state:
        st.session_state[f"{key} on"] = set_now is not None
    if f"{key} value" not in st.session_state:
        start = set_now if set_now is not None else default
        st.session_state[f"{key} value"] = _typed(start, limits)
    whole = isinstance(limits[0], int)

    def changed() -> None:
        on = st.session_state[f"{key} on"]
        draft.bound(kind, name, field, st.session_state.get(f"{key} value", default) if on else None)

    st.toggle(label, key=f"{key} on", on_change=changed, disabled=disabled is not None, help=disabled)
    active = st.session_state[f"{key} on"] and disabled is None
    st.slider(
        f"{field.replace('_', ' ')} of {name}",
        *limits,
        step=1 if whole else 0.01,
        format=None if whole else "percent",
        key=f"{key} value",
        on_change=changed,
        disabled=not active,
        label_visibility="collapsed",
    )


def _typed(start: Any, limits: tuple[Any, Any]) -> Any:
    kind = type(limits[0])
    if isinstance(start, (tuple, list)):
        return tuple(min(max(kind(v), limits[0]), limits[1]) for v in start)
    return min(max(kind(start), limits[0]), limits[1])


def _overview(budget: Budget) -> None:
    rows = [
        {"what": kind[:-1], "name": name, "field": field.replace("_", " "), "bound": _said(field, limits)}
        for kind, entries in (("groups", budget.groups), ("layers", budget.layers))
        for name, entry in entries.items()
        for field, limits in entry.items()
    ]
    if not rows:
        st.caption("No bounds yet. Switch one on to hold a layer or group to it.")
        return
    widgets.table(rows, "all_bounds")
    st.button("Remove all bounds", on_click=draft.clear_bounds, icon=":material/clear_all:")


def _said(field: str, limits: Any) -> str:
    if field == "sparsity":
        pair = limits if isinstance(limits, (list, tuple)) else [limits]
        return " to ".join(words.share(v, 0) for v in pair)
    return words.bits(limits)
