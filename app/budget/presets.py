"""Three ready budgets for every method, one click each: how much goes, and how many bits stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import words
from app.budget import method_catalog
from compression.methods.base import Uses


@dataclass(frozen=True)
class Preset:
    """``units`` and ``weights``: the share that goes of either; ``bits``: the range, ``average``, and equal bits."""

    name: str
    units: float
    weights: float
    bits: tuple[int, int]
    average: float
    equal: int

    def values(self, uses: Uses, structured: bool) -> dict[str, Any]:
        """The sliders' values for a method that uses a budget so."""
        found: dict[str, Any] = {}
        if uses.sparsity:
            found["sparsity"] = self.units if structured else self.weights
        key = {"range": "bits", "average": "average_bits", "equal": "equal_bits"}[uses.bits]
        found[key] = {"bits": self.bits, "average_bits": self.average, "equal_bits": self.equal}[key]
        return found

    def sentence(self, uses: Uses, structured: bool) -> str:
        """What it asks for, in a few words."""
        values = self.values(uses, structured)
        width: Any = next(value for name, value in values.items() if name != "sparsity")
        bits = words.bits(width if isinstance(width, tuple) else (width, width))
        bits = f"{bits} on average" if uses.bits == "average" else bits
        if "sparsity" not in values:
            return bits
        return f"{words.share(values['sparsity'], 0)} of {'channels' if structured else 'weights'} go, {bits}"


PRESETS = (
    Preset("Gentle", 0.2, 0.3, (8, 8), 8.0, 8),
    Preset("Balanced", 0.4, 0.6, (4, 8), 4.0, 6),
    Preset("Strong", 0.6, 0.85, (2, 4), 3.0, 4),
)


def buttons(name: str) -> None:
    """A button for each; bounds of single layers stay as they are."""
    method = method_catalog.get(name)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("Start from", width="content")
        for preset in PRESETS:
            told = f"{preset.sentence(method.uses, method.structured)}. Bounds of single layers stay."
            values = preset.values(method.uses, method.structured)
            st.button(preset.name, key=f"preset {preset.name}", help=told, on_click=_take, args=(values,))


def _take(values: dict[str, Any]) -> None:
    st.session_state.update(values)
