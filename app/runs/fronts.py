"""The two charts of score against size on the Runs page: the way of the open runs, and results; never mixed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import widgets
from app.runs import precisionview, raceboard, runlog, sweepview
from compression.plots import front, front_data, run_view, way
from compression.runs.store import RunInfo

HEIGHT = 380


def section(now: run_view.RunView, infos: Sequence[RunInfo], children: Sequence[str], sweep: bool) -> None:
    """Both charts side by side, there from the start; only results for runs that left no points.

    Of a sweep also how its runs stand against each other.
    """
    opened = [*children] if sweep else [now.run]
    runs = runlog.front_runs(opened, infos, now.model, now.data)
    own = [run for run in runs if run.run in opened]
    info = front_data.front_info(runs, opened)
    if own and (now.active or any(run.points for run in own)):
        whole = now.run if sweep else next((info.sweep for info in infos if info.id == now.run), None)
        left, right = st.columns(2, gap="medium")
        with left:
            on_the_way(way.way_info(own, sweepview.target(whole) if whole else None), now.active)
        with right:
            results(info, now.active)
    else:
        if not (now.active or sweep or now.points or now.final):
            paused = "it was paused while preparing" if now.state == "paused" else "it stopped before the first one"
            st.caption(f"This run has no points: {paused}.")
        results(info)
    if sweep:
        raceboard.section(own, now.active)


def on_the_way(info: way.WayInfo, live: bool) -> None:
    """The open runs at each measured point: estimates on validation data."""
    st.markdown("**On the way: validation data, estimated size**")
    widgets.chart(way.way_figure(info, HEIGHT), "way", info.rows, info.sentence, live)
    st.caption(  # the same from the first moment on, so that nothing below it moves
        "Estimated without the names, shapes and code tables that a file adds: no results. Triangles at the bottom "
        "edge: moments that lie lower still."
    )


def results(info: front_data.FrontInfo, live: bool = False) -> None:
    """Finished runs and the dense model, on test data and as files."""
    st.markdown("**Results: test data, size of the file**")
    if not (info.finals or info.dense):
        with st.container(height=HEIGHT, border=False):
            st.caption("No run of this model and data is finished yet, and the dense model is not measured yet.")
        return
    lines = precisionview.lines(dict.fromkeys(point.run for point in info.finals))
    table = [*info.rows, *(row for line in lines for row in line.rows)]
    widgets.chart(front.front_figure(info, HEIGHT, layered=lines), "front", table, info.sentence, live)
    parts = ["Faint: beaten in both by another."] if any(point.dominated for point in info.finals) else []
    if any(info.beside(point) for point in info.finals):
        parts.append("Small: other runs of the same model and data.")
    st.caption(" ".join(parts) + precisionview.legend(lines))
