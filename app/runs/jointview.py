"""The joint stage of a run on the Runs page: how fast each group is forgotten, and how its step sizes change."""

from __future__ import annotations

import streamlit as st

from app import nav, widgets
from compression import methods
from compression.plots import joint as figures
from compression.plots import run_view


def section(now: run_view.RunView) -> None:
    """γ and d of one group over the joint stage, folded; nothing where the method has no such stage."""
    method = methods.all_methods().get(now.method)
    if method is None or "joint" not in method.info.views:
        return
    info = figures.joint_info(now.decisions)
    if not info.groups and not now.active:  # of an active run the place is there from the start
        return
    with st.expander(
        "Inside the joint stage: γ and d", icon=":material/timeline:", key="joint_fold", on_change="rerun"
    ) as folded:
        if not folded.open:  # drawn every second otherwise
            return
        if not info.groups:
            st.caption("No group is being forgotten yet.")
            return
        st.caption(info.explanation)
        group = st.selectbox("Group", info.groups, key="joint_group") or info.groups[0]
        charts = (
            ("**γ, the forget rate**", figures.rate_figure, "joint_rate", "Forget rate"),
            ("**d, the step size of its layers**", figures.step_figure, "joint_d", "Step sizes"),
        )
        for column, (title, figure, key, quantity) in zip(st.columns(2), charts, strict=True):
            with column:
                st.markdown(title)
                widgets.plot(
                    figure(info, group, now.stages),
                    key,
                    f"{quantity} of {group} over the steps of the joint stage; the table holds the same.",
                )
        widgets.table_of(info.rows(group), "joint_stage")
        nav.link("learn", "Lesson 5 replays such a stage step by step", lesson="5")
