"""Units that leave during a run, one cell each: live while it goes on, to be played once it has ended."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import widgets
from app.model import catalog
from app.runs import runlog, view_model
from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.plots import theme, unit_life

COMPONENTS = widgets.ASSETS / "components"


def section(now: view_model.RunView) -> None:
    """Nothing for a run whose method removes no units, or that says nothing of them."""
    method = methods.all_methods().get(now.method)
    if method is None or not method.removes_units:
        return
    info = _info(now)
    if not info.drawable or not (info.leaving or now.active):
        return
    st.subheader("Which units leave, and when", anchor=False)
    st.caption(
        "Each cell is one unit (such as a channel) of a group; its colour tells the bits of the group's weights, dark "
        "for few. Struck through: chosen, and fading as far as it has been forgotten. Empty: exactly zero."
    )
    stages = [{"name": theme.stage(each.name, now.method).label, "start": each.start} for each in now.stages]
    _component()(key="units", data={**info.payload, "stages": stages, "palette": theme.bits_palette()})
    widgets.table_of(info.rows, "units_leaving")


def _info(now: view_model.RunView) -> unit_life.UnitsInfo:
    end = float(now.step if now.active or not now.stages else max(now.step, now.stages[-1].end))
    events = list(now.decisions)
    sizes = None
    if not any("sizes" in event for event in events):
        sizes = _sizes(now)
        if now.final is not None and (done := runlog.outcome(now.run)):
            gone = (p["step"] for p in now.points if p["unit_sparsity"] >= now.final["unit_sparsity"])
            events.append({"step": next(gone, end), "removed": done.get("units") or {}})
    points = [point for point in (*now.points, now.final) if point is not None]
    return unit_life.units_info(events, points, now.stages, end, float(now.total_steps or end), now.unit, sizes)


def _sizes(now: view_model.RunView) -> dict[str, int]:
    """How many units each group of the network has, where a run of version 0.1 does not say it."""
    try:
        catalog.allow(now.model, catalog.NO_DATA)
        graph = catalog.traced(catalog.of_budget(Budget.from_dict(now.budget))).graph
    except CompressionError:  # the app may not build it, or it cannot be built any more
        return {}
    return {group.id: group.units for group in graph.prunable}


@st.cache_resource(show_spinner=False)
def _component() -> Any:
    html, css, js = ((COMPONENTS / f"units.{part}").read_text(encoding="utf-8") for part in ("html", "css", "js"))
    return st.components.v2.component("units", html=html, css=css, js=js)
