"""The options of the chosen method, made from the method's own table: a new option shows up by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.budget import controls, draft
from app.terms import tip
from compression.methods import Method
from compression.options import Option, Options


def fields(method: Method) -> None:
    """One field for every option that is a word or a number; an empty one shows what the method then takes."""
    offered = [option for option in method.Config.table() if option.simple]
    chosen = draft.get().options
    empty = method.Config.read({name: value for name, value in chosen.items() if name == "preset"}, method.info.name)
    for title, icon, shared in (
        ("Options of the method", ":material/tune:", False),
        ("Options that other methods have too", ":material/tune:", True),
    ):
        options = [option for option in offered if option.shared == shared]
        if not options:
            continue
        with st.expander(title, icon=icon, expanded=any(option.name in chosen for option in options)):
            for first in range(0, len(options), 2):
                for column, option in zip(st.columns(2), options[first : first + 2], strict=False):
                    with column:
                        value = chosen.get(option.name)
                        _field(method.info.name, option, value, _empty(option.name, empty))


def _field(method: str, option: Option, value: Any, empty: str) -> None:
    key, whole = f"option {method} {option.name}", isinstance(option.default, int)
    if isinstance(value, Mapping):
        value, empty = None, "as in the loaded budget"
    number = isinstance(value, int) and not isinstance(value, bool) and not option.choices
    controls.seed(key, float(value) if number and not whole else value)
    common: dict[str, Any] = {
        "key": key, "help": tip(option.help), "placeholder": empty,
        "on_change": controls.moved, "args": (lambda value: _put(option.name, value), key),
    }  # fmt: skip
    if option.choices:
        st.selectbox(option.label, option.choices, None, format_func=_word, **common)  # None: it can be emptied again
        return
    limits = {"min_value": _bound(option.low, whole), "max_value": _bound(option.high, whole)}
    st.number_input(option.label, value=None, step=1 if whole else 0.05, **limits, **common)


def _put(name: str, value: Any) -> None:
    """Set an option of the draft; an empty field leaves it to the method."""
    options = {key: chosen for key, chosen in draft.get().options.items() if key != name}
    draft.change(options=options if value is None else {**options, name: value})


def _empty(name: str, config: Options) -> str:
    """What an empty field means: the value that holds without it, and where that comes from."""
    preset = getattr(config, "preset", None)
    return f"{_word(getattr(config, name))} ({f'as in {preset}' if preset and name != 'preset' else 'default'})"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _bound(edge: float, whole: bool) -> Any:
    if math.isinf(edge):
        return None
    return int(edge) if whole else float(edge)
