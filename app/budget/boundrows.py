"""The sliders of the Budget page's layers: a row each in a frame that scrolls, and the search where there are many."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import plain, state
from app.budget import bounds, controls, draft
from app.budget.bounds import BoundField, BoundRow
from app.terms import tip

MOST = 60
FEW = 12
HEIGHT = 430
WIDTHS = (5, 6, 6, 1)


def draw(rows: Sequence[BoundRow]) -> None:
    """Sliders for every layer, or where there are more than 60 for those picked or searched for."""
    shown = listed(rows)
    if not shown:
        text = (
            "No layer holds these letters." if _search() else "Search for layers, or pick some, to see their sliders."
        )
        st.caption(text)
        return
    _heads(shown)
    with st.container(height=HEIGHT if len(shown) > 4 else "content", key="bound_rows"):
        for row in shown:
            _row(row)


def _heads(rows: Sequence[BoundRow]) -> None:
    """What the columns of sliders are about."""
    shares = any(not field.whole for row in rows for field in row.fields)
    heads = ("Layer", "Sparsity" if shares else "", "Bits of the weights", "")
    for column, head in zip(st.columns(WIDTHS, gap="small"), heads, strict=True):
        if head:
            column.caption(f"**{head}**")


def listed(rows: Sequence[BoundRow]) -> list[BoundRow]:
    """The rows to draw, after asking for some where not all of them fit."""
    if len(rows) <= FEW:
        return list(rows)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Find layers", key="bound_search", placeholder="module or part of a name", width=260)
        if len(rows) > MOST:
            names = [row.name for row in rows]
            st.session_state["bound_pick"] = [n for n in st.session_state.get("bound_pick", ()) if n in names]
            st.multiselect("Pick layers", names, key="bound_pick", width=420)
    matches = matching(rows, _search(), st.session_state.get("bound_pick", ()))
    if len(matches) > MOST:
        st.caption(f"The first {MOST} of {len(matches)} layers; type more of the name to see others.")
    return matches[:MOST]


def matching(rows: Sequence[BoundRow], search: str, picked: Sequence[str]) -> list[BoundRow]:
    """Layers below a module of this name first, else all that contain the letters; beside them the picked ones.

    Without a search: all of up to 60, of more only the picked ones.
    """
    below = [row for row in rows if row.name == search or row.name.startswith(f"{search}.")]
    result = below or [row for row in rows if search.lower() in row.name.lower()]
    if not search:
        result = list(rows) if len(rows) <= MOST else []
    names = {row.name for row in result} | set(picked)
    return [row for row in rows if row.name in names]


def _search() -> str:
    return str(st.session_state.get("bound_search", "")).strip()


def _row(row: BoundRow) -> None:
    name, *sliders, last = st.columns(WIDTHS, vertical_alignment="center", gap="small")
    here = row.group and row.group == state.get("group")
    facts = (
        ["**bound**"] * row.bounded
        + [f"group {plain.text(row.group)}"] * bool(here)
        + [row.planned] * bool(row.planned)
    )
    with name:
        st.markdown(f"{plain.code(row.name)}  \n:small[{' · '.join(facts) or 'left to the method'}]")
    shares = [field for field in row.fields if not field.whole]
    with sliders[0]:
        for field in shares:
            _slider(field)
        if not shares and row.shared:
            st.caption(f"same channels as {plain.text(row.shared)}")
    with sliders[1]:
        for number, field in enumerate(field for field in row.fields if field.whole):
            _slider(field, named=number > 0)
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


def _slider(field: BoundField, named: bool = False) -> None:
    """The slider of a bound; ``named``: its label is visible, which tells it from the one above it."""
    control, title = field.control, field.control.label.capitalize()
    limits = (control.low, control.high, control.step)
    if field.ranged and not field.fixed and field.shown[0] == field.shown[1]:
        controls.closed(title, field.key, field.shown[0], limits, lambda value: bounds.put(field, field.stored(value)))
        return
    st.slider(
        title if named else f"{title} of {'group ' if field.kind == bounds.GROUPS else ''}{field.name}",
        control.low,
        control.high,
        controls.seed(field.key, field.shown, limits),
        control.step,
        format=None if field.whole else "percent",
        key=field.key,
        on_change=controls.moved,
        args=(lambda value: bounds.put(field, field.stored(value)), field.key),
        disabled=bool(field.fixed),
        help=tip(field.fixed),
        label_visibility="visible" if named else "collapsed",
    )


def clear(row: BoundRow) -> None:
    """Leave everything of a row to the method."""
    for field in row.fields:
        draft.bound(field.kind, field.name, field.field, None)
