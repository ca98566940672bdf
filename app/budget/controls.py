"""The controls of the Budget page: each is given its value by the draft and writes it there when a person moves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import streamlit as st

from app import widgets
from app.budget import draft
from app.terms import tip
from compression.asks import Ask, Control
from compression.errors import CompressionError

_SHAPES, _PROBLEM = "shapes_of_controls", "control_problem"


def seed(key: str, value: Any, shape: tuple[Any, ...] = ()) -> Any:
    """Give the control of this key its value before it is drawn; ``shape``: its limits and step. Returns the value.

    Only where the control has another one: what is set is sent to the browser, where a slider would jump back that is
    on the move. A control of another shape is a new one to the browser. The value is to be the control's default, too:
    the browser begins with that where a control was folded away when its value was sent.
    """
    shapes = st.session_state.setdefault(_SHAPES, {})
    if key not in st.session_state or shapes.get(key) != shape or repr(st.session_state[key]) != repr(value):
        st.session_state[key] = value
    shapes[key] = shape
    return value


def moved(write: Callable[[Any], None], key: str) -> None:
    """Write the value of the control that a person moved; what cannot be is refused, and the control goes back."""
    try:
        write(st.session_state[key])
    except CompressionError as error:
        st.session_state[_PROBLEM] = error


def problem() -> None:
    """The line that says why the last move was refused."""
    if refused := st.session_state.pop(_PROBLEM, None):
        widgets.problem(refused)


def key_of(ask: Ask) -> str:
    """The key of the control of an ask."""
    return f"ask {ask.field}"


def one_of(asks: Sequence[Ask]) -> Ask:
    """Buttons for asks that say the same in different ways; returns the one that counts."""
    fields = {ask.field: ask for ask in asks}
    active = next((ask for ask in asks if ask.value(draft.get().asks) is not None), asks[0])
    key = f"one of {' '.join(fields)}"
    st.segmented_control(
        "How much is removed, by",
        list(fields),
        default=seed(key, active.field),
        key=key,
        required=True,
        format_func=lambda field: cast("Control", fields[field].control()).label,
        on_change=moved,
        args=(lambda field: put(fields[field], cast("Control", fields[field].control()).default), key),
    )
    return active


def draw(
    ask: Ask,
    asks: Mapping[str, Any],
    limits: tuple[float, float] | None = None,
    form: str | None = None,
    switch: bool = True,
) -> None:
    """The control of an ask: a slider with one handle or two, where it is optional behind a ``switch``.

    ``limits`` narrows it, and disables it where both ends are the same; ``form`` is Streamlit's word for a format.
    """
    control = ask.control()
    if control is None:
        return
    value = draft.shown(ask, asks)
    explained = f"{ask.help[:1].upper()}{ask.help[1:]}."
    if control.optional and switch and not _switch(ask, control, value is not None, explained):
        return
    low, high = limits or (control.low, control.high)
    end = float if any(isinstance(number, float) for number in (low, high, control.step)) else int
    shape = (end(low), end(high) if high > low else end(low + control.step), end(control.step))
    if control.kind == "range" and value[0] == value[1] and high > low:
        closed(
            control.label.removesuffix(", from … to"),
            key_of(ask),
            value[0],
            shape,
            lambda value: put(ask, value),
            tip(explained),
        )
        return
    now = seed(key_of(ask), tuple(map(end, value)) if control.kind == "range" else end(value), shape)
    st.slider(
        control.label,
        *shape[:2],
        now,
        shape[2],
        format=form or control.format,
        key=key_of(ask),
        on_change=moved,
        args=(lambda value: put(ask, value), key_of(ask)),
        help=tip(explained),
        disabled=high <= low,
    )


def closed(
    label: str, key: str, value: float, shape: tuple[Any, ...], write: Callable[[Any], None],
    explained: str | None = None, disabled: bool = False,
) -> None:  # fmt: skip
    """A range whose ends are equal, as two fields: the handles of a slider would lie on each other.

    ``shape``: lowest and highest end, and the step; shares, which are not whole, are shown in percent.
    """
    low, high, step = shape
    whole = all(isinstance(number, int) for number in shape)
    scale = 1 if whole else 100
    limits = (low * scale, high * scale, step * scale)
    for place, column in zip(("from", "to"), st.columns(2), strict=True):
        field = f"{key} {place}"

        def moved_end(number: float, first: bool = place == "from") -> None:
            new = int(number) if whole else round(number / 100, 6)
            write((new, max(new, value)) if first else (min(new, value), new))

        with column:
            st.number_input(
                f"{label} {place}{'' if whole else ', %'}", *limits[:2], seed(field, value * scale, limits), limits[2],
                format=None if whole else "%.4g", key=field, on_change=moved, args=(moved_end, field),
                help=tip(explained if place == "from" else None), disabled=disabled,
            )  # fmt: skip


def put(ask: Ask, value: Any) -> None:
    """Set an ask of the draft as its control gives it.

    Raises:
        CompressionError: a value that the ask cannot have.
    """
    draft.put_asks({ask.field: ask.accept(round(value, 6) if isinstance(value, float) else value)})


def _switch(ask: Ask, control: Control, on: bool, explained: str) -> bool:
    key = f"{key_of(ask)} on"
    label = ask.help.partition(":")[0]
    return st.toggle(
        f"{label[:1].upper()}{label[1:]}",
        seed(key, on),
        key=key,
        help=tip(explained),
        on_change=moved,
        args=(lambda switched: put(ask, control.default if switched else None), key),
    )


def number(label: str, key: str, value: float, low: float, high: float, explained: str) -> None:
    """A field for a number of the draft, whole where its limits are; ``key`` is the field of the budget."""
    whole = isinstance(low, int)
    st.number_input(
        label,
        low,
        high,
        seed(key, int(value) if whole else float(value)),
        1 if whole else 1.0,
        format=None if whole else "%g",
        key=key,
        on_change=moved,
        args=(lambda value: draft.change(**{key: int(value) if value == int(value) else value}), key),
        help=tip(explained),
    )
