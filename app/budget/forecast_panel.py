"""What the budget gives, in figures, and what these rest on."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import plain, widgets, words
from app.budget import draft, method_catalog, plan
from app.budget.planned import Plan
from app.model import catalog, networks
from compression.budget import Budget
from compression.errors import CompressionError


def refused(error: CompressionError) -> None:
    """Why the budget cannot be, and the way out where bounds of single layers and groups may be the reason."""
    widgets.problem(error)
    if draft.bounds()["groups"] or draft.bounds()["layers"]:
        st.button("Remove the bounds", key="remove_bounds", icon=":material/clear_all:", on_click=draft.clear_bounds)


def answer(of: catalog.Subject, found: networks.Network, budget: Budget, path: Path | None) -> Plan | None:
    """What the budget gives, in figures; nothing but one line when it cannot be met."""
    try:
        planned = plan.make(of, path, found.graph, budget)
    except CompressionError as error:
        refused(error)
        return None
    low, high = planned.bytes
    whole = planned.dense.nominal_bytes
    smaller = f"{words.between(whole / high, whole / low, words.ratio)} smaller"
    work = f"{words.share(planned.low.macs / planned.dense.macs, 0)} of dense"
    bops = words.between(100 * planned.low.rel_bops, 100 * planned.high.rel_bops, lambda share: f"{share:.3g} %")
    widgets.metrics(
        ("Size", words.between(low, high, words.size), smaller, words.HELP["planned_bytes"]),
        ("MACs", words.count(planned.low.macs), work, words.HELP["macs"]),
        ("BOPs", bops, "of the dense fp32 model", words.HELP["bops"]),
        _last(planned, found),
    )
    for note in planned.notes:
        st.caption(plain.text(note))
    return planned


def _last(planned: Plan, found: networks.Network) -> tuple[str, str, str, str]:
    if planned.error is not None:
        explained = "Σ(w − ŵ)² relative to Σw², measured on the weights"
        return ("Error of the weights", f"{100 * planned.error:.3g} %", "before any training", explained)
    return ("Channels gone", f"{planned.units}", f"of {found.graph.prunable_units:,}", words.HELP["unit"])


def basis(budget: Budget, path: Path | None) -> str:
    """What the answer rests on."""
    method = method_catalog.get(budget.method)
    if method.structured:
        return (
            "Counted for channels removed evenly; the run picks them by what they contribute. The packed file codes "
            "them closer, and adds step sizes and names."
        )
    if path is None:
        return "Answered on untrained weights, since there are no trained ones: only a rough guide."
    if not method.uses.sparsity:
        return (
            "Rounded on the trained weights; the size is all weights at their bits. The packed file codes them closer."
        )
    told = "OPQ's allocation on the trained weights" if budget.method == "opq" else "Counted on the trained weights"
    return f"{told}; the size is values and positions of zeros, coded ideally."
