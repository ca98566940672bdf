"""Several runs against each other on the Runs page: who leads, how each method got on, and all settings at once."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import widgets
from app.runs import records
from app.terms import tip
from compression.plots import parallel, standing
from compression.plots.front_data import FrontRun

HALVINGS = (
    "The area under a method's front, as halvings of size without loss: a file of half the size that is as good as the "
    "dense model is worth 1, of a quarter 2; what is worse counts for less, nothing from a tenth of the range on. "
    "Seeds are averaged."
)


def section(runs: Sequence[FrontRun], live: bool) -> None:
    """Leader board, growth and parallel coordinates of the runs of a sweep; nothing of a single run."""
    if len(runs) < 2:
        return
    if len({run.method for run in runs}) > 1:
        board(runs, live)
    with st.expander("Settings and results of all runs", icon=":material/stacked_line_chart:", key="all_settings",
                     on_change="rerun") as opened:  # fmt: skip
        if opened.open:
            coordinates(runs)


def board(runs: Sequence[FrontRun], live: bool) -> None:
    """Who leads, on results; and how the area grew, on the way there."""
    metric = runs[0].metric
    listed = standing.standings(runs)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        st.markdown("**Leader board: results**")
        number = st.column_config.NumberColumn
        formats = {
            standing.AREA: number(help=tip(HALVINGS), format="%.2f"),
            "±": number(help=tip("Standard deviation over the finished runs.")),
            "BOPs %": number(format="%.2f"),
            "seconds": number(format="%.0f"),
        }
        widgets.table(standing.rows(listed, metric), "board", formats)
        st.caption("Score, size and work are means over the finished runs of a method.")
    with right:
        st.markdown("**On the way: halvings of size without loss**")
        lines = standing.growths(runs)
        sentence = f"{len(lines)} lines, one for each method and seed: how much its front was worth over time."
        widgets.chart(standing.growth_figure(lines), "growth", standing.growth_rows(lines), sentence, live)


def coordinates(runs: Sequence[FrontRun]) -> None:
    """Every finished run as a line through its settings and results."""
    info = parallel.parallel_info(records.rows([run.run for run in runs]), runs[0].metric)
    if len(info.records) < 2:
        st.caption("Two finished runs are needed: there is nothing to compare yet.")
        return
    alt = f"{len(info.records)} runs: a line for each through {', '.join(axis.label for axis in info.coordinates)}."
    widgets.chart(parallel.parallel_figure(info), "parallel", info.rows, alt)
    st.caption("Drag along an axis to keep the runs that pass there; a click beside the bar clears it. Bright: better.")
