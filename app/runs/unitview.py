"""Units that leave during a run, one cell each: live while it goes on, to be played once it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from app import components, widgets
from app.runs import runlog
from compression import methods
from compression.plots import run_view, theme, unit_life

Units = Callable[[Mapping[str, Any]], Mapping[str, int]]
"""A run's budget → how many units each group of its network has (:func:`app.setup.units`)."""


def section(now: run_view.RunView, units: Units) -> None:
    """Nothing for a run whose method removes no units, or that says nothing of them."""
    method = methods.all_methods().get(now.method)
    if method is None or not method.removes_units:
        return
    info = _info(now, units)
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


def _info(now: run_view.RunView, units: Units) -> unit_life.UnitsInfo:
    end = float(now.step if now.active or not now.stages else max(now.step, now.stages[-1].end))
    events = list(now.decisions)
    sizes = None
    if not any("sizes" in event for event in events):
        sizes = units(now.budget)
        if now.final is not None and (done := runlog.outcome(now.run)):
            zero = (p["step"] for p in now.points if p["unit_sparsity"] >= now.final["unit_sparsity"])
            events.append({"step": next(zero, end), "removed": done.get("units") or {}})
    points = [point for point in (*now.points, now.final) if point is not None]
    return unit_life.units_info(events, points, now.stages, end, float(now.total_steps or end), now.unit, sizes)


@st.cache_resource(show_spinner=False)
def _component() -> Any:
    return components.component("units")
