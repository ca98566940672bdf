"""The joint stage of a GETA run on the Runs page: how fast each group is forgotten, and where its step sizes go."""

from __future__ import annotations

import streamlit as st

from app import nav, plain, widgets
from app.figures import joint as figures
from app.runs import view_model

EXPLAINED = (
    "The channels that are to go lose a share γ of themselves at each step of the joint stage. GETA makes γ small, and "
    "moves the step size d of the group's quantizers within what the bit-widths allow (shaded), so that every step "
    "still lowers the loss; dotted: forgetting evenly. The last step of a pruning period takes the rest."
)


def section(now: view_model.Story) -> None:
    """γ and d of one group over the joint stage, folded; nothing where the run told of no such stage."""
    if now.budget.get("method") != "geta":
        return
    info = figures.joint_info(now.decisions)
    if not info.groups:
        return
    with st.expander(
        "Inside the joint stage: γ and d", icon=":material/timeline:", key="joint_fold", on_change="rerun"
    ) as folded:
        if not folded.open:  # nothing of it is drawn, every second anew, for nobody
            return
        st.caption(EXPLAINED)
        group = st.selectbox("Group", info.groups, key="joint_group") or info.groups[0]
        left, right = st.columns(2)
        rows = info.rows(group)
        with left:
            st.markdown("**γ, the forget rate**")
            alt = f"Forget rate of {group} over the steps of the joint stage; the table holds the same."
            st.plotly_chart(
                plain.figure(figures.rate_figure(info, group, now.stages)),
                key="joint_rate",
                config=figures.base.CONFIG,
                alt=alt,
            )
        with right:
            st.markdown("**d, the step size of its layers**")
            alt = f"Step sizes of the layers of {group} within their range; the table holds the same."
            st.plotly_chart(
                plain.figure(figures.step_figure(info, group, now.stages)),
                key="joint_d",
                config=figures.base.CONFIG,
                alt=alt,
            )
        widgets.table_of(rows, "joint_stage")
        nav.link("learn", "Lesson 5 replays such a stage step by step", lesson="5")
