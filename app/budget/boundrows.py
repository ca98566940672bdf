"""The sliders of the Budget page's layers: a row each in a frame that scrolls, and the search where there are many."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import plain, state
from app.budget import bounds, draft
from app.budget.bounds import Field, Row
from app.terms import tip

MOST = 60
FEW = 12
HEIGHT = 430
WIDTHS = (5, 6, 6, 1)


def draw(rows: Sequence[Row]) -> None:
    """Sliders for every layer, or where there are more than 60 for those picked or searched for."""
    shown = wanted(rows)
    if not shown:
        text = (
            "No layer holds these letters." if _search() else "Search for layers, or pick some, to see their sliders."
        )
        st.caption(text)
        return
    with st.container(height=HEIGHT if len(shown) > 4 else "content", key="bound_rows"):
        for row in shown:
            _row(row)


def wanted(rows: Sequence[Row]) -> list[Row]:
    """The rows to draw, after asking which where not all of them fit."""
    if len(rows) <= FEW:
        return list(rows)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Find layers", key="bound_search", placeholder="module or part of a name", width=260)
        if len(rows) > MOST:
            names = [row.name for row in rows]
            kept = [name for name in st.session_state.get("bound_pick", ()) if name in names]
            st.session_state["bound_pick"] = kept
            st.multiselect("Pick layers", names, key="bound_pick", width=420)
    found = matching(rows, _search(), st.session_state.get("bound_pick", ()))
    if len(found) > MOST:
        st.caption(f"The first {MOST} of {len(found)} layers; say more of the name to see others.")
    return found[:MOST]


def matching(rows: Sequence[Row], search: str, picked: Sequence[str]) -> list[Row]:
    """Layers below a module of this name first, else all that hold the letters; beside them the picked ones.

    Without a search: all of up to 60, of more only the picked ones.
    """
    below = [row for row in rows if row.name == search or row.name.startswith(f"{search}.")]
    held = below or [row for row in rows if search.lower() in row.name.lower()]
    if not search:
        held = list(rows) if len(rows) <= MOST else []
    names = {row.name for row in held} | set(picked)
    return [row for row in rows if row.name in names]


def _search() -> str:
    return str(st.session_state.get("bound_search", "")).strip()


def _row(row: Row) -> None:
    name, *sliders, last = st.columns(WIDTHS, vertical_alignment="center", gap="small")
    here = row.group and row.group == state.get("group")
    told = (
        ["**bound**"] * row.bounded
        + [f"group {plain.text(row.group)}"] * bool(here)
        + [row.planned] * bool(row.planned)
    )
    with name:
        st.markdown(f"{plain.code(row.name)}  \n:small[{' · '.join(told) or 'left to the method'}]")
    first, second = sliders
    by_kind = {field.field: field for field in row.fields}
    with first:
        if share := by_kind.get("sparsity"):
            _slider(share, row.name)
        elif row.shared:
            st.caption(f"same channels as {plain.text(row.shared)}")
    with second:
        for field in (by_kind.get("weight_bits"), by_kind.get("activation_bits")):
            if field:
                _slider(field, row.name)
    with last:
        st.button(
            ":material/close:",
            key=f"clear bounds {row.name}",
            help=f"Leave {plain.text(row.name)} to the method",
            disabled=not row.bounded,
            on_click=clear,
            args=(row,),
            type="tertiary",
        )


def _slider(field: Field, row: str) -> None:
    st.session_state[field.key] = field.shown
    what = f"{field.title.capitalize()} of {'group ' if field.kind == 'groups' else ''}{field.name}"
    visible = field.field == "activation_bits"
    st.slider(
        "Activation bits" if visible else what,
        *field.limits,
        step=1 if field.whole else field.step,
        format=None if field.whole else "percent",
        key=field.key,
        on_change=_moved,
        args=(field,),
        disabled=bool(field.fixed),
        help=tip(field.fixed),
        label_visibility="visible" if visible else "collapsed",
    )


def _moved(field: Field) -> None:
    bounds.put(field, field.kept(st.session_state[field.key]))


def clear(row: Row) -> None:
    """Leave everything of a row to the method."""
    for field in row.fields:
        draft.bound(field.kind, field.name, field.field, None)
