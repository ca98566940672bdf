"""Groups: the layered graph, the groups in it, what belongs to each and why."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import catalog
from app import nav
from app import state
from app import widgets
from app import words
from app.figures import base
from app.figures import graph as figures

TALLEST = 760


def choose(group: str) -> None:
    """Light up a group, or none."""
    state.put("group", group)


def _clicked() -> None:
    points = st.session_state["graph_chart"].selection.points
    ids = points[0]["customdata"][1:] if points else []
    choose(str(ids[0]) if ids else "")


def _picked(ids: list[str]) -> None:
    rows = st.session_state[_table_key()].selection.rows
    choose(ids[rows[0]] if rows else "")


def _table_key() -> str:
    return f"group_table {state.get('group')}"


def picture(found: catalog.Traced) -> None:
    """The graph; a click on a node lights up its group."""
    every = st.toggle("Every operation", key="every_op", help="Also draw norms, activations and reshapes.")
    info = figures.graph_info(found.plain, found.node_groups, every_op=every, selected=state.get("group") or None)
    fig = figures.graph_figure(info)
    config = {**base.CONFIG, "displayModeBar": False}
    alt = (
        f"Layered graph of {state.get('model')}, {len(info.nodes)} nodes. The table on this page holds the same groups."
    )
    with st.container(height=min(TALLEST, int(fig.layout.height) + 40), border=True):
        st.plotly_chart(fig, key="graph_chart", on_select=_clicked, selection_mode="points", config=config, alt=alt)


def details(found: catalog.Traced) -> None:
    """The selected group: its members and why they are tied."""
    ids = [group.id for group in found.graph.groups]
    current = state.get("group") if state.get("group") in ids else ""
    st.session_state["pick_group"] = current
    st.selectbox(
        "Group",
        ["", *ids],
        key="pick_group",
        format_func=lambda v: v or "none selected",
        on_change=lambda: choose(st.session_state["pick_group"]),
        help=words.HELP["group"],
    )
    if not current:
        st.markdown(
            "Click a node in the graph, or pick a group here or in the table. The numbers beside the nodes are "
            "**units**: channels that can be removed one by one, each with everything that depends on it."
        )
        return
    group = found.graph.group(current)
    if group.prunable:
        st.markdown(f":blue-badge[:material/content_cut: can be removed] {words.plural(group.units, 'unit')}")
    else:
        st.markdown(f":gray-badge[:material/lock: must stay] {words.plural(group.units, 'unit')}: {group.reason}.")
    per_unit = sum(m.numel for m in group.members if not m.buffer)
    st.markdown(f"Taking out one unit removes **{per_unit:,} parameters** in {len(group.members)} places at once.")
    st.markdown("**Why they are tied**")
    widgets.table([{"where": t.op, "why": t.why} for t in group.ties], "ties")
    st.markdown("**What belongs to it**")
    widgets.table(_members(group), "members")
    nav.link("budget", "Bound this group's sparsity", group=current)


def _members(group: Any) -> list[dict[str, Any]]:
    roles = {"producer": "makes the unit", "consumer": "reads the unit", "norm": "scales the unit"}
    return [
        {
            "parameter": member.name,
            "role": "statistics" if member.buffer else roles[member.role],
            "axis": member.dim,
            "numbers per unit": member.numel,
        }
        for member in group.members
    ]


def rows_of(found: catalog.Traced) -> list[dict[str, Any]]:
    """All groups as a table."""
    return [
        {
            "group": group.id,
            "units": group.units,
            "state": "can be removed" if group.prunable else "must stay",
            "why it must stay": group.reason or "",
            "parameters per unit": sum(m.numel for m in group.members if not m.buffer),
            "layers tied": ", ".join(
                dict.fromkeys(
                    m.name.removesuffix(".weight").removesuffix(".bias") for m in group.members if m.role == "producer"
                )
            ),
        }
        for group in found.graph.groups
    ]


def table(found: catalog.Traced) -> None:
    """The same content without a picture; a row selects its group."""
    st.subheader("All groups", anchor=False)
    rows = rows_of(found)
    ids = [row["group"] for row in rows]
    chosen = [ids.index(state.get("group"))] if state.get("group") in ids else []
    widgets.table(
        rows,
        _table_key(),
        on_select=lambda: _picked(ids),
        selection_mode="single-row",
        selection_default={"selection": {"rows": chosen}},
    )
    with st.container(horizontal=True):
        widgets.download(rows, "groups")
        st.download_button(
            "DOT",
            lambda: figures.dot(found.plain, found.node_groups),
            file_name=f"{state.get('model').rpartition(':')[2]}.dot",
            icon=":material/download:",
            on_click="ignore",
            help="The graph in Graphviz's language",
        )


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "groups",
        "A channel cannot be cut out alone: the layers that add to it, scale it and read it must lose theirs too. "
        "Such a set is a **group**, and one channel through all of it is a **unit**.",
    )
    of = catalog.subject(state.get("model"), state.get("data"))
    found = catalog.traced(of)
    widgets.context(of.model, of.data)
    graph = found.graph
    frozen = len(graph.groups) - len(graph.prunable)
    widgets.metrics(
        ("Groups that can shrink", f"{len(graph.prunable)}", "", words.HELP["group"]),
        ("Units in them", f"{graph.prunable_units:,}", "", words.HELP["unit"]),
        ("Groups that must stay", f"{frozen}", "", "Each says why, below."),
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        picture(found)
    with right:
        details(found)
    table(found)


page()
