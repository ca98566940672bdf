"""Sensitivity on the Budget page: what one layer at a time costs, and the bounds that follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from app import widgets, words
from app.budget import draft
from app.model import catalog, networks, studyview
from app.terms import tip
from compression import methods
from compression.budget import Budget
from compression.data import kind
from compression.errors import CompressionError
from compression.jobs import sensitivity as study
from compression.methods import Method
from compression.plots import sensitivity as figures
from compression.tasks import ACCURACY, Metric

EXPLAINED = (
    "The score on validation data when only this layer is rounded, or only its {what} are removed, the smallest "
    "first. Nothing is trained, so it shows where the network is sensitive, not what a run will reach."
)
MOST_POINTS = 50.0
_LAST, _PROBLEM = "scan_used", "scan_problem"


def section(subject: catalog.ChosenModel, network: networks.Network, budget: Budget, path: Path | None) -> None:
    """The scan of this model for the budget's method."""
    method = methods.get(budget.method)
    explained = EXPLAINED.format(what=_what(method))
    studyview.show(
        study.KIND, subject, path, study.request(method.removes_units), "Measure every layer by itself", explained,
        lambda scan: result(scan, network, method, explained, kind(subject.data).many),
    )  # fmt: skip


def result(scan: dict[str, Any], network: networks.Network, method: Method, explained: str, examples: str) -> None:
    """The map, the rule that turns it into bounds, and the button that takes them."""
    from compression.explain.layer_sensitivity import fewest_bits, most_sparsity

    metric = Metric.from_result(scan)
    one = f"; one of them is {metric.scale / scan['images']:.2g} {metric.points}" if metric == ACCURACY else ""
    st.caption(f"{explained} {scan['images']:,} {examples}{one}. Dense: {metric.show(scan['dense'])} {metric.label}.")
    points = _rule(scan, method)
    bits = fewest_bits(scan, points)
    shares = most_sparsity(scan, points, _kind(scan))
    layers = [layer.name for layer in network.graph.layers if layer.name in bits]
    info = figures.sensitivity_info(scan, layers, network.group_of_layer, bits, shares)
    lost = f"{metric.points} of {metric.label} lost"
    alt = f"{lost}, a row for each layer, a column for each setting; the table holds the same."
    widgets.chart(figures.sensitivity_figure(info), "sensitivity", info.rows, alt)
    st.caption(
        f"Numbers: {lost}. Squares: what the rule takes; a layer without one takes 16 bits, or keeps "
        "everything. “Use as budget” makes what is ticked bounds in the tab Layers, and moves sparsity and average "
        "bits to what these allow. Losses of single layers do not simply add up."
    )


def _what(method: Method) -> str:
    return "channels" if method.removes_units else "weights"


def _kind(scan: dict[str, Any]) -> str:
    return "units" if scan["structured"] else "weights"


def _rule(scan: dict[str, Any], method: Method) -> float:
    """How much a layer may lose, what of it becomes bounds, and what the last use did; returns the points."""
    what = _what(method)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        help_text = "For each layer: the fewest bits and the most sparsity that lose no more than this, by themselves."
        unit = Metric.from_result(scan).points
        most = f"{unit[:1].upper()}{unit[1:]} a layer may lose" if unit else "What a layer may lose"
        points = st.number_input(most, 0.0, MOST_POINTS, 1.0, 0.25, "%g", key="points", help=tip(help_text), width=200)
        widths = st.checkbox("Bits", value=True, key="use_bits", width="content")
        shares = method.ask("--sparsity") is not None and st.checkbox(
            what.capitalize(),
            value=not (method.removes_units and method.info.trains),
            key=f"use_{what}",
            width="content",
            help=tip(
                f"Also bound how many {what} are removed. Nothing is trained in this scan: a method that trains wins "
                "back most of what it loses here, so that bounds on channels are mostly too strict for it."
            ),
        )
        st.button(
            "Use as budget", icon=":material/arrow_upward:", key="use_scan", on_click=_use,
            args=(scan, points, widths, shares), disabled=not (widths or shares),
        )  # fmt: skip
    if refused := st.session_state.pop(_PROBLEM, None):
        widgets.problem(refused)
    _used()
    return points


def _used() -> None:
    """What the last “Use as budget” did, and the way back, until the bounds are changed otherwise."""
    last = st.session_state.get(_LAST)
    if last is None or last["bounds"] != _bounds(draft.get()):
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(last["summary"], width="content")
        st.button("Undo", icon=":material/undo:", key="undo_scan", type="tertiary", on_click=_undo)


def _undo() -> None:
    draft.put(st.session_state.pop(_LAST)["before"])


def _use(scan: dict[str, Any], points: float, widths: bool, shares: bool) -> None:
    """Make the bounds that follow from the scan those of the draft; channels stay free where none may be removed."""
    from compression.explain.layer_sensitivity import as_budget, most_sparsity

    before = draft.get()
    method = methods.get(before.method)
    spared = shares and scan["structured"] and not any(most_sparsity(scan, points, "units").values())
    try:
        start = draft.requested(before)
        bounded = as_budget(scan, points, start, method, widths=widths, shares=shares and not spared)
        draft.put(before.replace(asks={**before.asks, **_reachable(method, bounded)}, **_bounds(bounded)))
    except CompressionError as error:
        st.session_state[_PROBLEM] = error
        return
    text = summary(method, start, bounded, widths, shares and not spared, spared)
    st.session_state[_LAST] = {"before": before, "bounds": _bounds(draft.get()), "summary": text}


def _bounds(budget: Budget) -> dict[str, Any]:
    plain = budget.to_dict()
    return {"groups": plain["groups"], "layers": plain["layers"]}


def _reachable(method: Method, budget: Budget) -> dict[str, Any]:
    """The values of the method's asks, none beyond the end of its slider."""
    ends = {ask.field: control.high for ask in method.asks if (control := ask.control()) and control.kind == "slider"}
    return {
        field: min(value, ends[field]) if value is not None and field in ends else value
        for field, value in draft.values(budget).items()
    }


def summary(method: Method, before: Budget, after: Budget, widths: bool, shares: bool, spared: bool) -> str:
    """What was bounded, in a line; ``spared``: channels were ticked, but no group may lose any at this limit."""
    layers = after.layers.values()
    parts = [f"{words.plural(sum('weight_bits' in entry for entry in layers), 'layer')} bounded in bits"] * widths
    if shares:
        units = method.removes_units
        count = len(after.groups) if units else sum("sparsity" in entry for entry in layers)
        parts.append(f"{words.plural(count, 'group' if units else 'layer')} bounded in sparsity")
    if spared:
        parts.append("no group may lose channels at this limit, so sparsity is left to the method")
    for ask in method.asks:
        old, new = ask.value(before.asks), ask.value(after.asks)
        if old != new:
            parts.append(f"moved from {ask.words(old)} to {ask.words(new)}")
    return f"{'; '.join(parts)}."
