"""The options of the chosen method, made from the method's own table: a new option shows up by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.budget import draft, method_catalog
from app.terms import tip

if TYPE_CHECKING:
    from compression.methods.options import Option


def fields(method: str) -> None:
    """One field for every option that is a word or a number; an empty one leaves the value to the method."""
    table = method_catalog.options(method)
    offered = [option for option in table if option.simple]
    if not offered:
        return
    preset = any(option.name == "preset" for option in table)
    with st.expander("Options of the method", icon=":material/tune:", expanded=bool(draft.options(method))):
        for option in offered:
            empty = "as in the preset" if preset and option.name != "preset" else _word(option.default)
            _field(method, option, empty)


def _field(method: str, option: Option, empty: str) -> None:
    key, now = draft.option_key(method, option.name), draft.options(method).get(option.name)
    whole = isinstance(option.default, int)
    if isinstance(now, Mapping):
        empty = "as in the loaded budget"
    elif key not in st.session_state and now is not None:
        st.session_state[key] = now if whole or option.choices else float(now)
    common: dict[str, Any] = {
        "key": key, "help": tip(option.help), "placeholder": empty,
        "on_change": _changed, "args": (method, option.name),
    }  # fmt: skip
    label = option.name.replace("_", " ").capitalize()
    if option.choices:
        st.selectbox(label, option.choices, index=None, format_func=_word, **common)
        return
    limits = {"min_value": _bound(option.low, whole), "max_value": _bound(option.high, whole)}
    st.number_input(label, value=None, step=1 if whole else 0.05, **limits, **common)


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _bound(edge: float, whole: bool) -> Any:
    if math.isinf(edge):
        return None
    return int(edge) if whole else float(edge)


def _changed(method: str, name: str) -> None:
    draft.option(method, name, st.session_state.get(draft.option_key(method, name)))
