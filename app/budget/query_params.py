"""The address of the Budget page: what a link cannot mean is taken out of it and told, before the fields read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import plain, theme
from app.budget import draft, method_catalog
from compression.bounds import HIGHEST_BITS, LOWEST_BITS

_FLAGS = (["true"], ["false"], ["1"], ["0"])
_RANGES = ("bits", "activation_bits")
_BITS = (LOWEST_BITS, HIGHEST_BITS)
_NUMBERS = {
    "sparsity": (0.0, draft.HIGHEST_SPARSITY),
    "average_bits": _BITS,
    "equal_bits": _BITS,
    "equal_activation_bits": _BITS,
    "epochs": (draft.FEWEST_EPOCHS, draft.MOST_EPOCHS),
    "seed": (-draft.LARGEST_SEED, draft.LARGEST_SEED),
}
_SAID, _WRONG = "address_said", "address_wrong"
_SEEN = "address_seen"  # what the address said when the form was last drawn
_MOVED = "address_moved"


def tidy(draw_fields: Callable[[], None]) -> list[str]:
    """Bring the address into the draft; returns a line for every field that fell back to its default.

    A method may be named as the command line does (``opq``) or as the page does (``OPQ``). A field takes its first
    value from the address whatever the page says; so where that is wrong they are drawn once as they are, and set right
    in a second run.
    """
    said: list[str] = st.session_state.pop(_SAID, [])
    wrong = st.session_state.pop(_WRONG, {})
    st.session_state.update(wrong)
    if wrong:
        return said
    given, seen = _given(), st.session_state.get(_SEEN, {})
    if any(seen.get(name) != text for name, text in given.items()):  # a link was followed: also what is default there
        st.session_state.update({name: parsed(name, given[name]) for name in given})
    if found := mistakes(given):
        st.session_state[_WRONG] = {name: value for name, (value, _) in found.items()}
        st.session_state[_SAID] = [line for _, line in found.values() if line]
        for name in found:
            del st.query_params[name]
        with st.empty().container():
            draw_fields()
        st.rerun()
    return said


def binding(name: str) -> Literal["query-params"] | None:
    """How a field hangs on the address; not at all while that says what a field of whole numbers cannot even read."""
    return None if name in st.session_state.get(_WRONG, {}) else "query-params"


def follow(draw_fields: Callable[[], None]) -> None:
    """Draw the controls, and have every one of them in the address.

    The browser writes what is moved, and may be further than this run. What was set otherwise (by a preset, a file,
    another page) is written here before it is drawn, since a control that is new to the page begins with what the
    address says.
    """
    given, just_moved = _given(), st.session_state.pop(_MOVED, ())
    now = {name: parsed(name, given[name]) if name in given else draft.DEFAULTS[name] for name in draft.DEFAULTS}
    late = {name: value for name, value in draft.shown().items() if value != now[name]}
    _write({name: value for name, value in late.items() if name not in just_moved})
    draw_fields()
    st.session_state[_SEEN] = _given()


def moved(name: str) -> None:
    """A person moved a control of the form, just before this run."""
    st.session_state[_MOVED] = (*st.session_state.get(_MOVED, ()), name)


def _write(values: Mapping[str, Any]) -> None:
    """Put values into the address, those of bound controls too, which Streamlit lets nobody but the control write."""
    context = get_script_run_ctx()
    if context is None or not values:
        return
    with context.session_state.query_params() as params:
        for name, value in values.items():
            text = written(name, value)
            params.set_corrected_value(name, text, "string_value" if isinstance(text, str) else "string_array_value")
        params.set_initial_query_params_from_current()


def _given() -> dict[str, list[str]]:
    return {name: st.query_params.get_all(name) for name in draft.DEFAULTS if name in st.query_params}


def written(name: str, value: Any) -> str | list[str]:
    """A control's value as the address has it."""
    if name == "method":
        return theme.style(value).label
    if isinstance(value, tuple):
        return [str(end) for end in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def parsed(name: str, given: Sequence[str]) -> Any:
    """The value that the address gives a control; its default where that cannot be."""
    if name in mistakes({name: given}) and name != "method":
        return draft.DEFAULTS[name]
    default = draft.DEFAULTS[name]
    if name == "method":
        labels = {theme.style(method).label: method for method in method_catalog.names()}
        return labels.get(given[0], given[0] if given[0] in labels.values() else default)
    if isinstance(default, tuple):
        return tuple(int(float(end)) for end in given)
    if isinstance(default, bool):
        return given[0].lower() in ("true", "1")
    return type(default)(float(given[0]))


def mistakes(given: Mapping[str, Sequence[str]]) -> dict[str, tuple[Any, str]]:
    """Field → the value to take instead of what the address says, and the line that tells it (empty: nothing lost)."""
    found: dict[str, tuple[Any, str]] = {}
    method = given.get("method", [theme.style(draft.DEFAULTS["method"]).label])
    if len(method) == 1 and method[0] in method_catalog.names():
        found["method"] = (method[0], "")
    elif method not in [[theme.style(name).label] for name in method_catalog.names()]:
        found["method"] = _fallback("method", method)
    for name in _RANGES:
        if name in given and not _range(given[name]):
            found[name] = _fallback(name, given[name])
    for name, (low, high) in _NUMBERS.items():
        if name in given and not _within(given[name], low, high, whole=isinstance(draft.DEFAULTS[name], int)):
            found[name] = _fallback(name, given[name])
    for name, texts in given.items():
        if isinstance(draft.DEFAULTS[name], bool) and [text.lower() for text in texts] not in _FLAGS:
            found[name] = _fallback(name, texts)
    return found


def _fallback(name: str, given: Sequence[str]) -> tuple[Any, str]:
    said = ", ".join(given)[:40]
    line = (
        f"The address says {name} = {plain.text(said) or 'nothing'}, which cannot be: {draft.in_words(name)} is used."
    )
    return draft.DEFAULTS[name], line


def _within(given: Sequence[str], low: float, high: float, whole: bool) -> bool:
    value = _number(given[0])
    return len(given) == 1 and value is not None and low <= value <= high and (value == int(value) or not whole)


def _range(given: Sequence[str]) -> bool:
    ends = [_number(text) for text in given]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return False
    return LOWEST_BITS <= ends[0] <= ends[1] <= HIGHEST_BITS and all(end == int(end) for end in ends if end)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
