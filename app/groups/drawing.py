"""The graph of a model at a detail, merged and placed once and shared; which modules this tab has opened."""

from __future__ import annotations

import streamlit as st

from app.groups import grouping, placement, quantized, sources
from app.model import networks
from compression.plots import placing


@st.cache_resource(max_entries=32, show_spinner=False)
def levels(view: quantized.View) -> dict[grouping.Level, int]:
    """The details to choose from, with how many boxes each draws."""
    network = quantized.traced(view)
    return grouping.levels(network.plain["nodes"], [(a, b) for a, b in network.plain["edges"]], _carrying(network))


@st.cache_resource(max_entries=64, show_spinner="Drawing the graph…")
def placed(view: quantized.View, level: grouping.Level, opened: tuple[str, ...]) -> placing.PlacedBoxes:
    """Boxes and places, which depend on nothing that changes while one clicks around in a group."""
    network = quantized.traced(view)
    return placement.place(network.plain, level, opened, _carrying(network))


@st.cache_resource(max_entries=32, show_spinner=False)
def close_up(view: quantized.View, layer: str) -> placing.PlacedBoxes:
    """One layer and its quantizers, every operation a box."""
    return placement.place(quantized.around(quantized.traced(view).plain, layer), grouping.EVERY_OP)


@st.cache_resource(max_entries=16, show_spinner=False)
def operands(view: quantized.View) -> sources.Sources:
    """What flows into every operation, for the sentences."""
    return sources.Sources(quantized.traced(view).plain)


def parameters(network: networks.Network) -> dict[str, int]:
    """Module path → number of its parameters, without those of its parts."""
    return {row["name"]: row["params"] for row in network.modules}


def _carrying(network: networks.Network) -> frozenset[str]:
    return frozenset(node for node, groups in network.node_groups.items() if groups)
