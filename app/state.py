"""What this tab looks at: kept in the address, so that a link opens the same view.

Model, data, uploaded weights, run, other run, group, tour, the bits that a run of several is read at, and whether text
is larger. The address wins (an empty value: the default); what it does not name comes from this session, so that a
change of page loses nothing. Drafts that no link needs to carry live in the session alone.
"""

from __future__ import annotations

import streamlit as st

DEFAULTS = {
    "model": "resnet8", "data": "mnist5k", "weights": "", "run": "", "other": "", "group": "", "tour": "",
    "read_at": "", "projector": "",
}  # fmt: skip
_LONGEST = 300


def sync() -> None:
    """Bring address and session together; called once at the top of every page run."""
    model = st.query_params.get("model", "")[:_LONGEST]
    others = ("group", "weights") if model and model != get("model") else ()  # those of the model before
    for name, default in DEFAULTS.items():
        named = st.query_params.get(name)
        stored = default if name in others else st.session_state.get(_key(name), default)
        st.session_state[_key(name)] = stored if named is None else named[:_LONGEST] or default
    missing = {name: get(name) for name in DEFAULTS if get(name) and st.query_params.get(name) != get(name)}
    if missing:
        st.query_params.update(missing)  # in one message
    for name in DEFAULTS:
        if not get(name):
            address(name, "")


def get(name: str) -> str:
    """The current model, data, run or group; empty when none is chosen."""
    return str(st.session_state.get(_key(name), DEFAULTS[name]))


def put(name: str, value: str) -> None:
    """Choose; the address follows. Another model forgets the group that was picked in the old one, and its weights."""
    if name == "model" and value != get("model"):
        _set("group", "")
        _set("weights", "")
    _set(name, value)


def _set(name: str, value: str) -> None:
    st.session_state[_key(name)] = value
    address(name, value)


def address(name: str, value: str) -> None:
    """Write a value into the address; an empty one removes it."""
    if value and st.query_params.get(name) != value:
        st.query_params[name] = value
    elif not value and name in st.query_params:
        del st.query_params[name]


def _key(name: str) -> str:
    return f"at_{name}"
