"""Sensitivity on the Budget page: what one layer at a time costs, and the bounds that follow from it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import streamlit as st

from app import widgets, words
from app.budget import draft, method_catalog, studyview
from app.model import catalog, networks
from app.terms import tip
from compression.budget import Budget
from compression.errors import CompressionError
from compression.jobs import sensitivity as study
from compression.plots import sensitivity as figures

EXPLAINED = (
    "Validation accuracy when only this layer is rounded, or only its {what} go, the smallest first. Nothing is "
    "trained, so it shows where the network is touchy, not what a run will reach."
)
MOST_POINTS = 50.0
_LAST = "scan_used"


def section(of: catalog.Subject, found: networks.Network, budget: Budget, path: Path | None) -> None:
    """The scan of this model for the budget's method."""
    structured = method_catalog.get(budget.method).structured
    explained = EXPLAINED.format(what="channels" if structured else "weights")
    asked = study.request(structured)
    label = "Measure every layer by itself"
    studyview.show(
        study.KIND, of, path, asked, label, explained, lambda told: result(told, of, found, budget, explained)
    )


def result(told: dict[str, Any], of: catalog.Subject, found: networks.Network, budget: Budget, explained: str) -> None:
    """The map, the rule that turns it into bounds, and the button that takes them."""
    from compression.explain.layer_sensitivity import fewest_bits, most_sparsity

    st.caption(
        f"{explained} {told['images']:,} images; one of them is {100 / told['images']:.2g} points. Dense: "
        f"{words.share(told['dense'])}."
    )
    points = _rule(told, of, budget)
    rows, dense = told["rows"], told["dense"]
    bits = fewest_bits(rows, dense, points)
    shares = most_sparsity(rows, dense, points, "units" if told["structured"] else "weights")
    layers = [layer.name for layer in found.graph.layers if layer.name in bits]
    info = figures.sensitivity_info(told, layers, found.group_of_layer, bits, shares)
    alt = "Percent points of accuracy lost, a row for each layer, a column for each setting; the table holds the same."
    widgets.chart(figures.sensitivity_figure(info), "sensitivity", info.rows, alt)
    st.caption(
        "Numbers: points of accuracy lost. Squares: what the rule takes; a layer without one takes 16 bits, or keeps "
        "everything. “Use as budget” makes what is ticked bounds in the tab Layers, and moves sparsity and average "
        "bits to what these allow. Losses of single layers do not simply add up."
    )


def _rule(told: dict[str, Any], of: catalog.Subject, budget: Budget) -> float:
    """How much a layer may lose, what of it becomes bounds, and what came of the last time; returns the points."""
    method = method_catalog.get(budget.method)
    what = "channels" if method.structured else "weights"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        help_text = "For each layer: the fewest bits and the most sparsity that lose no more than this, by themselves."
        points = st.number_input(
            "Points a layer may lose", 0.0, MOST_POINTS, 1.0, 0.25, "%g", key="points", help=tip(help_text), width=200
        )
        widths = st.checkbox("Bits", value=True, key="use_bits", width="content")
        shares = method.uses.sparsity and st.checkbox(
            what.capitalize(),
            value=not (method.structured and method.uses.training),
            key=f"use_{what}",
            width="content",
            help=tip(
                f"Also bound how many {what} go. Nothing is trained in this scan: a method that trains wins back most "
                "of what it loses here, so that bounds on channels are mostly too strict for it."
            ),
        )
        st.button(
            "Use as budget", icon=":material/arrow_upward:", key="use_scan", on_click=_use,
            args=(told, points, of, widths, shares), disabled=not (widths or shares),
        )  # fmt: skip
    if refused := st.session_state.pop("scan_problem", None):
        widgets.problem(refused)
    _used()
    return points


def _used() -> None:
    """What the last “Use as budget” did, and the way back, until the bounds are changed otherwise."""
    last = st.session_state.get(_LAST)
    if last is None or last["bounds"] != draft.bounds():
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(last["told"], width="content")
        st.button("Undo", icon=":material/undo:", key="undo_scan", type="tertiary", on_click=_undo)


def _undo() -> None:
    before = st.session_state.pop(_LAST)["before"]
    draft.clear_bounds()
    st.session_state["bounds"] = before["bounds"]
    st.session_state.update(before["values"])


def _use(told: dict[str, Any], points: float, of: catalog.Subject, widths: bool, shares: bool) -> None:
    from compression.explain.layer_sensitivity import as_budget, most_sparsity

    kind = "units" if told["structured"] else "weights"
    spared = (
        shares and told["structured"] and not any(most_sparsity(told["rows"], told["dense"], points, kind).values())
    )
    try:
        budget = draft.budget(of)
        method = method_catalog.get(budget.method)
        bounded = as_budget(told, points, budget, method.uses.bits, widths=widths, shares=shares and not spared)
    except CompressionError as error:
        st.session_state["scan_problem"] = error
        return
    before = {"bounds": copy.deepcopy(draft.bounds()), "values": draft.shown()}
    draft.put_bounds(bounded)
    moved = []
    if method.uses.sparsity and bounded.sparsity != budget.sparsity:
        st.session_state["sparsity"] = min(draft.HIGHEST_SPARSITY, bounded.sparsity)
        moved.append(f"sparsity moved from {words.share(budget.sparsity, 0)} to {words.share(bounded.sparsity)}")
    if method.uses.bits == "average" and bounded.bits != budget.bits:
        st.session_state["average_bits"] = float(bounded.bits)
        moved.append(f"average bits moved from {budget.bits:g} to {bounded.bits:g}")
    said = summary(bounded, method.structured, widths, shares and not spared, spared, moved)
    st.session_state[_LAST] = {"before": before, "bounds": copy.deepcopy(draft.bounds()), "told": said}


def summary(bounded: Budget, structured: bool, widths: bool, shares: bool, spared: bool, moved: list[str]) -> str:
    """What was bounded, in a line; ``spared``: channels were asked for, but no group may lose any at this limit."""
    layers = bounded.layers.values()
    parts = [f"{words.plural(sum('weight_bits' in entry for entry in layers), 'layer')} bounded in bits"] * widths
    if shares:
        count = len(bounded.groups) if structured else sum("sparsity" in entry for entry in layers)
        parts.append(f"{words.plural(count, 'group' if structured else 'layer')} bounded in sparsity")
    if spared:
        parts.append("no group may lose channels at this limit, so sparsity is left to the method")
    return f"{'; '.join([*parts, *moved])}."
