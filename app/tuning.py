"""The options of the chosen method, made from the method's own table: a new option shows up by itself."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from app import draft
from compression import methods
from compression.methods.options import Option

PRESET = "as in the preset"


def fields(method: str) -> None:
    """One field for every option that is a word or a number; an empty one leaves the value to the method."""
    table: tuple[Option, ...] = getattr(methods.get(method), "options", ())
    offered = [option for option in table if option.choices or isinstance(option.default, (int, float))]
    if not offered:
        return
    with st.expander("Options of the method", icon=":material/tune:", expanded=bool(draft.options())):
        for option in offered:
            _field(option)


def _field(option: Option) -> None:
    key, now = draft.OPTION + option.name, draft.options().get(option.name)
    whole = isinstance(option.default, int)
    if key not in st.session_state and now is not None:
        st.session_state[key] = now if whole or option.choices else float(now)
    common: dict[str, Any] = {"key": key, "help": option.help, "on_change": _changed, "args": (option.name,)}
    label = option.name.replace("_", " ").capitalize()
    if option.choices:
        shown = str(option.default) if option.name == "preset" else PRESET
        st.selectbox(label, option.choices, index=None, placeholder=shown, **common)
        return
    limits = {"min_value": _bound(option.low, whole), "max_value": _bound(option.high, whole)}
    st.number_input(label, value=None, step=1 if whole else 0.05, placeholder=PRESET, **limits, **common)


def _bound(edge: float, whole: bool) -> Any:
    if math.isinf(edge):
        return None
    return int(edge) if whole else float(edge)


def _changed(name: str) -> None:
    draft.option(name, st.session_state.get(draft.OPTION + name))
