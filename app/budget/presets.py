"""Three ready budgets for every method, one click each: how much is removed, and how many bits the rest keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.budget import draft
from compression.asks import BITS_OPTION, UNITS, WEIGHTS, Sparsity
from compression.methods import Method


@dataclass(frozen=True)
class Preset:
    """``shares``: the sparsity of units and of single weights; bits as a range, as an average and as a whole number."""

    name: str
    shares: dict[str, float]
    range: tuple[int, int]
    average: float
    whole: int

    def values(self, method: Method) -> dict[str, Any]:
        """Field → value of those asks of a method that are about sparsity and the bits of weights."""
        values: dict[str, Any] = {
            ask.field: self.shares[ask.target] for ask in method.asks if isinstance(ask, Sparsity)
        }
        ask = method.ask(BITS_OPTION)
        if ask is not None and (control := ask.control()) is not None:
            number = self.average if control.step < 1 else self.whole
            values[ask.field] = ask.accept(self.range if control.kind == "range" else number)
        return values


PRESETS = (
    Preset("Gentle", {UNITS: 0.2, WEIGHTS: 0.3}, (8, 8), 8.0, 8),
    Preset("Balanced", {UNITS: 0.4, WEIGHTS: 0.6}, (4, 8), 4.0, 6),
    Preset("Strong", {UNITS: 0.6, WEIGHTS: 0.85}, (2, 4), 3.0, 4),
)


def buttons(method: Method) -> None:
    """A button for each preset that sets something of the method; bounds of single layers stay as they are."""
    offered = {preset.name: values for preset in PRESETS if (values := preset.values(method))}
    if not offered:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("Start from", width="content")
        for name, values in offered.items():
            words = ", ".join(ask.words(values[ask.field]) for ask in method.asks if ask.field in values)
            explained = f"{words[:1].upper()}{words[1:]}. Bounds of single layers stay."
            st.button(name, key=f"preset {name}", help=explained, on_click=draft.put_asks, args=(values,))
