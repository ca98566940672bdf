"""The two-minute tour: a finished run of the gallery followed through eight pages, one or two sentences on each.

The stop is part of the address (``?tour=3``), so that a reload or a copied link stays on the tour; nothing is locked.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from app import nav, state
from app.gallery import gallery
from app.gallery.gallery import Exhibit


@dataclass(frozen=True)
class Stop:
    """One page of the tour: what to see there; ``query`` is what the page shall open, beside model, data and run."""

    page: str
    text: str
    query: tuple[tuple[str, str], ...] = ()


STOPS = (
    Stop(
        "start",
        "A trained network goes in, a smaller one comes out, and every page shows what that costs. We follow one "
        "finished run: a network that reads digits, compressed by **GETA**. Press **Next**.",
    ),
    Stop(
        "groups",
        "Removing a channel here takes its rows, its norm and every weight that reads it: a **group**. The lit one is "
        "tied together by a residual sum; the text beside the graph says why.",
        (("group", "conv1"),),
    ),
    Stop(
        "budget",
        "Here a run is set up; ours was to lose 30 % of its channels and to keep 4 to 8 bits for the rest. Move a "
        "slider: size and work follow at once, before anything is trained.",
    ),
    Stop(
        "runs",
        "The result: four figures, and what to do next. Below, the network on its way through GETA's stages beside "
        "what it came to; the star is the network before. Up and to the left is better.",
    ),
    Stop(
        "compare",
        "Other methods were given the same network. Points on the line are beaten by none; click another point and "
        "everything below follows it.",
    ),
    Stop(
        "explain",
        "Equal accuracy can hide that a network now looks elsewhere. Each image beside what the original looks at and "
        "what the compressed network looks at: orange counts. Those whose answer changed come first.",
    ),
    Stop(
        "export",
        "**Make the bundle** packs the small network as ONNX and PyTorch with its measured score, size and speed.",
    ),
    Stop(
        "learn",
        "Each lesson computes its picture while you move a slider, and asks you to predict what comes. That was the "
        "tour; **Try it now** on Start runs GETA before your eyes.",
        (("lesson", "5"),),
    ),
)


def subject() -> Exhibit | None:
    """The run that the tour follows: the one that a collection names, else the first that has its model."""
    whole = [e for e in gallery.exhibits() if e.whole and not e.info.runs]
    named = {(collection.name, collection.tour) for collection in gallery.read().collections}
    return next((e for e in whole if (e.collection, e.name) in named), next(iter(whole), None))


def go(number: int, set_up: nav.SetUp) -> None:
    """To the stop of this number, 1 to the last."""
    stop, followed = STOPS[number - 1], subject()
    query: dict[str, str | list[str]] = {"tour": str(number), **dict(stop.query)}
    if followed is not None:
        query |= {"model": followed.info.model, "data": followed.info.data, "run": followed.info.id}
    if followed is not None and stop.page == "budget":
        query |= set_up(followed.info.id)  # the budget that the text is about
    nav.go(stop.page, **query)


def current() -> int:
    """The stop in the address; 0 when nobody is on the tour."""
    text = state.get("tour")
    return int(text) if text.isascii() and text.isdigit() and 1 <= int(text) <= len(STOPS) else 0


def draw(page: str, set_up: nav.SetUp) -> None:
    """The present stop, above the page it is about; elsewhere the way back."""
    number = current()
    if not number:
        return
    stop = STOPS[number - 1]
    with st.container(border=True, key="tour"):
        if page == stop.page:
            st.markdown(f"**Tour, {number} of {len(STOPS)}: {nav.PAGES[page].title}.** {stop.text}")
        else:
            st.markdown(f"You left the tour at stop {number} of {len(STOPS)}, {nav.PAGES[stop.page].title}.")
        with st.container(horizontal=True, vertical_alignment="center"):
            _buttons(number, page == stop.page, set_up)


def _buttons(number: int, here: bool, set_up: nav.SetUp) -> None:
    forward, backward = ":material/arrow_forward:", ":material/arrow_back:"
    if not here:
        if st.button("Back to the tour", key="tour_return", type="primary", icon=forward):
            go(number, set_up)
    elif number < len(STOPS) and st.button("Next", key="tour_next", type="primary", icon=forward):
        go(number + 1, set_up)
    elif number == len(STOPS) and st.button("Finish on Start", key="tour_finish", type="primary", icon=forward):
        state.put("tour", "")
        nav.go("start")
    if here and number > 1 and st.button("Back", key="tour_back", icon=backward):
        go(number - 1, set_up)
    st.button("End the tour", key="tour_end", type="tertiary", on_click=lambda: state.put("tour", ""))
