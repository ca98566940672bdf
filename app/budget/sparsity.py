"""The sparsity slider of the Budget page: it begins and ends where the network and the bounds do, and says so."""

from __future__ import annotations

import streamlit as st

from app import words
from app.budget import draft, method_catalog, query_params
from app.model import networks
from app.terms import tip
from compression.errors import CompressionError

KEY = "sparsity"
STEP = 0.01


def fit(found: networks.Network) -> str:
    """Move the draft's sparsity into what can be reached; returns a line where it had to be moved."""
    if not method_catalog.uses(draft.value("method") or draft.DEFAULTS["method"]).sparsity:
        return ""
    low, high = ends(found)
    now = float(draft.value(KEY))
    moved = min(max(now, low), high)
    if moved == now:
        return ""
    st.session_state[KEY] = moved
    return f"{words.share(now, 0)} cannot be reached here: {_percent(moved)} is used."


def ends(found: networks.Network) -> tuple[float, float]:
    """The least and the most sparsity that can be asked for as things are set."""
    method = method_catalog.get(draft.value("method") or draft.DEFAULTS["method"])
    return _ends(found, method.structured)[:2]


def slider(found: networks.Network, structured: bool) -> None:
    """The slider, and below it what narrows it."""
    what, term = ("channels", "units") if structured else ("weights", "weights")
    moved = fit(found)
    low, high, bounded = _ends(found, structured)
    st.slider(
        f"Sparsity: share of {what} that go",
        low,
        high if high > low else low + STEP,
        min(max(draft.DEFAULTS[KEY], low), high),
        STEP,
        "percent",
        key=KEY,
        bind="query-params",
        on_change=query_params.moved,
        args=(KEY,),
        help=tip(words.HELP[f"sparsity_{term}"]),
        disabled=high <= low,
    )
    if line := " ".join(filter(None, (moved, sentence(low, high, structured, bounded)))):
        st.caption(line)


def sentence(low: float, high: float, structured: bool, bounded: bool) -> str:
    """Why the slider does not go from 0 to 98 %; empty where it does."""
    if (low, high) == (0.0, draft.HIGHEST_SPARSITY):
        return ""
    why = ["every group keeps one channel" if structured else "every layer keeps 2 % of its weights"]
    why += [f"the bounds of {'groups' if structured else 'layers'} hold"] if bounded else []
    if high <= low:
        return f"Only {_percent(low)} here: {' and '.join(why)}."
    ends = f"At most {_percent(high)}" if low == 0 else f"From {_percent(low)} to {_percent(high)}"
    return f"{ends} here: {' and '.join(why)}."


def _ends(found: networks.Network, structured: bool) -> tuple[float, float, bool]:
    """Least and most sparsity, and whether bounds narrow it; everything where the bounds contradict each other."""
    from compression.pruning.reach import reach

    held = draft.bounds()
    try:
        room = reach(found.graph, held["groups"], held["layers"], structured)
    except CompressionError:  # the answer beside the sliders says what is wrong
        return 0.0, draft.HIGHEST_SPARSITY, True
    low, high = room.ends
    return min(low, draft.HIGHEST_SPARSITY), min(high, draft.HIGHEST_SPARSITY), room.bounded


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
