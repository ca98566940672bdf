"""Sensitivity on the Budget page: what one layer at a time costs, and the bounds that follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from app import widgets
from app import words
from app.budget import draft
from app.budget import offer
from app.budget import studyview
from app.figures import sensitivity as figures
from app.model import catalog
from app.model import networks
from app.terms import tip
from compression.budget import Budget
from compression.errors import CompressionError
from compression.runs import sensitivity as study

EXPLAINED = (
    "Validation accuracy when only this layer is rounded, or only its {what} go, the smallest first. Nothing is "
    "trained, so it shows where the network is touchy, not what a run will reach."
)
MOST_POINTS = 50.0


def section(of: catalog.Subject, found: networks.Network, budget: Budget, path: Path | None) -> None:
    """The scan of this model for the budget's method."""
    structured = offer.get(budget.method).structured
    explained = EXPLAINED.format(what="channels" if structured else "weights")
    asked = study.asked(structured)
    label = "Measure every layer by itself"
    studyview.show(
        study.KIND, of, path, asked, label, explained, lambda told: result(told, of, found, budget, explained)
    )


def result(told: dict[str, Any], of: catalog.Subject, found: networks.Network, budget: Budget, explained: str) -> None:
    """The map, the rule that turns it into bounds, and the button that takes them."""
    from compression.sensitivity import fewest_bits
    from compression.sensitivity import most_sparsity

    st.caption(
        f"{explained} {told['images']:,} images; one of them is {100 / told['images']:.2g} points. Dense: "
        f"{words.share(told['dense'])}."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        help_text = "For each layer: the fewest bits and the most sparsity that lose no more than this, by themselves."
        points = st.number_input(
            "Points a layer may lose", 0.0, MOST_POINTS, 1.0, 0.25, "%g", key="points", help=tip(help_text), width=200
        )
        st.button("Use as budget", icon=":material/arrow_upward:", on_click=_use, args=(told, points, of))
    if refused := st.session_state.pop("scan_problem", None):
        widgets.problem(refused)
    rows, dense = told["rows"], told["dense"]
    bits = fewest_bits(rows, dense, points)
    shares = most_sparsity(rows, dense, points, "units" if told["structured"] else "weights")
    layers = [layer.name for layer in found.graph.layers if layer.name in bits]
    info = figures.sensitivity_info(told, layers, found.group_of_layer, bits, shares)
    alt = "Percent points of accuracy lost, a row for each layer, a column for each setting; the table holds the same."
    widgets.chart(figures.sensitivity_figure(info), "sensitivity", info.rows, alt)
    st.caption(
        "Numbers: points of accuracy lost. Squares: what the rule takes; a layer without one takes 16 bits, or keeps "
        "everything. “Use as budget” makes them bounds in the tab Layers, and moves sparsity and average bits to what "
        "these allow. Losses of single layers do not simply add up."
    )


def _use(told: dict[str, Any], points: float, of: catalog.Subject) -> None:
    from compression.sensitivity import as_budget

    try:
        budget = draft.budget(of)
        method = offer.get(budget.method)
        bounded = as_budget(told, points, budget, method.uses.bits)
    except CompressionError as error:
        st.session_state["scan_problem"] = error
        return
    draft.put_bounds(bounded)
    if method.uses.sparsity:
        st.session_state["sparsity"] = min(draft.HIGHEST_SPARSITY, bounded.sparsity)
    if method.uses.bits == "average":
        st.session_state["average_bits"] = float(bounded.bits)
