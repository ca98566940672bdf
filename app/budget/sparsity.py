"""The sparsity slider of the Budget page: it begins and ends where the network and the bounds do, and says so."""

from __future__ import annotations

import streamlit as st

from app import words
from app.budget import controls, draft
from app.model import networks
from compression import form
from compression.asks import HIGHEST_SPARSITY, UNITS, Sparsity


def ends(network: networks.Network, ask: Sparsity) -> tuple[float, float]:
    """The least and the most sparsity that the draft's bounds leave."""
    return _ends(network, ask)[:2]


def slider(network: networks.Network, ask: Sparsity) -> None:
    """The slider, and below it what narrows it; the draft is moved into what can be reached."""
    now = ask.value(draft.get().asks)
    low, high, bounded = _ends(network, ask)
    lines = []
    reached = min(max(now, low), high)
    if reached != now:
        draft.put_asks({ask.field: reached})
        lines.append(f"{words.share(now, 0)} cannot be reached here: {_percent(reached)} is used.")
    controls.draw(ask, draft.get().asks, (low, high), "percent")
    if line := " ".join([*lines, *sentences(low, high, ask, bounded)]):
        st.caption(line)


def sentences(low: float, high: float, ask: Sparsity, bounded: bool) -> list[str]:
    """Why the slider does not go from 0 to 98 %; none where it does."""
    if (low, high) == (0.0, HIGHEST_SPARSITY):
        return []
    units = ask.target == UNITS
    why = ["every group keeps one channel" if units else "every layer keeps 2 % of its weights"]
    why += [f"the bounds of {'groups' if units else 'layers'} hold"] if bounded else []
    if high <= low:
        return [f"Only {_percent(low)} here: {' and '.join(why)}."]
    ends = f"At most {_percent(high)}" if low == 0 else f"From {_percent(low)} to {_percent(high)}"
    return [f"{ends} here: {' and '.join(why)}."]


def _ends(network: networks.Network, ask: Sparsity) -> tuple[float, float, bool]:
    return form.sparsity_ends(network.graph, draft.get(), ask)


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
