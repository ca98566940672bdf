"""Groups: the layered graph, its groups, and the members of each with the reasons that tie them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import nav, plain, state, widgets, words
from app.groups import dependency_text, drawing, graphview, quantized, quantview
from app.model import catalog, networks, opening
from app.terms import tip
from compression.plots import dot

if TYPE_CHECKING:
    from compression.graph import Code, Graph, Group, Tie

MOST_OF_A_KIND = 3  # ties shown before the rest is folded away


def details(subject: catalog.ChosenModel, network: networks.Network) -> None:
    """The selected group: its members and why they are tied."""
    ids = [group.id for group in network.graph.groups]
    current = state.get("group") if state.get("group") in ids else ""
    labels = {"": "none selected"} | {group: group for group in ids}
    widgets.choice("Group", labels, current, "pick_group", graphview.choose, help=tip(words.HELP["group"]))
    if not current:
        st.markdown(
            "Click a node in the graph, or pick a group here or in the table. The numbers beside the nodes are "
            "**units**: channels that can be removed one by one, each with everything that depends on it. Beside a "
            "square, a module of several operations, stand its units and its parameters."
        )
        return
    group = network.graph.group(current)
    _status(subject, group)
    per_unit = sum(m.numel for m in group.members if not m.buffer)
    st.markdown(f"Taking out one unit removes **{per_unit:,} parameters** in {len(group.members)} places at once.")
    _why_tied(subject, group)
    st.markdown("**What belongs to it**")
    widgets.table(_members(group), "members")
    nav.link("budget", "Bound this group's sparsity", group=current)


def _status(subject: catalog.ChosenModel, group: Group) -> None:
    """Whether units of a group can be removed, and the reason if not."""
    units = words.plural(group.units, "unit")
    if group.prunable:
        st.markdown(f":blue-badge[:material/content_cut: can be removed] {units}")
    else:
        st.markdown(f":gray-badge[:material/lock: must stay] {units}: {plain.text(group.reason)}.")
    if group.cause:
        where = drawing.operands(quantized.View(subject)).visible(group.place, group.nodes)
        st.markdown(dependency_text.frozen(group.cause, where))
    if not group.prunable and not group.exact:
        st.caption(
            "In code of your own, `cx.trace(model, example, inexact=True)` lets such units be removed; the answer "
            "then changes a little, and `cx.slim_report` returns by how much."
        )


def _why_tied(subject: catalog.ChosenModel, group: Group) -> None:
    """Every tie in a sentence, those between layers first; all of them as a table."""
    st.markdown("**Why they are tied**")
    operands = drawing.operands(quantized.View(subject))
    sentences = [(tie, dependency_text.tie(tie.cause, tie.op, operands.into(tie.op))) for tie in group.ties]
    if not sentences:
        st.markdown("Nothing else depends on these units.")
        return
    first, rest = _foremost(sentences)
    st.markdown("\n".join(f"- {sentence}" for sentence in first))
    if rest:
        with st.expander(f"{len(rest):,} more of these kinds", type="compact"):
            st.markdown("\n".join(f"- {sentence}" for sentence in rest))
    rows = [{"where": tie.op, "why": tie.why, "in words": text.replace("`", "")} for tie, text in sentences]
    widgets.table_of(rows, "ties", "Ties as a table")


def _foremost(sentences: list[tuple[Tie, str]]) -> tuple[list[str], list[str]]:
    """The first few sentences of every kind, ties between layers before those inside one; and all others."""
    kinds: Counter[Code] = Counter()
    first: list[str] = []
    rest: list[str] = []
    for tie, sentence in sorted(sentences, key=lambda pair: dependency_text.rank(pair[0].cause)):
        kinds[tie.cause.code] += 1
        (first if kinds[tie.cause.code] <= MOST_OF_A_KIND else rest).append(sentence)
    return first, rest


def _members(group: Group) -> list[dict[str, Any]]:
    roles = {
        "producer": "makes the unit", "consumer": "reads the unit", "norm": "scales the unit",
        "quantizer": "quantizes the unit",
    }  # fmt: skip
    return [
        {
            "parameter": member.name,
            "role": "statistics" if member.buffer and member.role != "quantizer" else roles[member.role],
            "axis": member.dim,
            "numbers per unit": member.numel,
        }
        for member in group.members
    ]


def group_rows(network: networks.Network) -> list[dict[str, Any]]:
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
        for group in network.graph.groups
    ]


def table(network: networks.Network, view: quantized.View) -> None:
    """All groups without a picture; a row selects its group."""
    st.subheader("All groups", anchor=False)
    rows = group_rows(network)
    ids = [row["group"] for row in rows]
    widgets.picker(rows, ids, state.get("group"), "group_table", graphview.choose, optional=True)
    with st.container(horizontal=True):
        widgets.download(rows, "groups")
        st.download_button(
            "DOT",
            lambda: dot.dot(quantized.traced(view).plain, quantized.traced(view).node_groups),
            file_name=f"{state.get('model').rpartition(':')[2]}.dot",
            icon=":material/download:",
            on_click="ignore",
            help="The graph that is drawn, in Graphviz's language",
        )


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "groups",
        "A channel cannot be cut out alone: the layers that add to it, scale it and read it must lose theirs too. "
        "Such a set is a **group**, and one channel through all of it is a **unit**.",
    )
    opened = opening.network()
    if opened is None:
        return
    subject, network = opened.subject, opened.network
    widgets.context(subject.model, subject.data)
    _summary(network.graph)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        view = graphview.picture(subject, network)
        quantview.before_and_after(subject, view.quantizers)
    with right, st.container(key="group_details"):
        details(subject, network)
    table(network, view)


def _summary(graph: Graph) -> None:
    """The numbers of groups and units; for a network that reads values, a note on the path drawn."""
    if graph.values_read:
        st.info(
            f"This network looks at the values of its tensors ({plain.text(graph.values_read)}). What you see is the "
            "path of the example input; another input may take another.",
            icon=":material/alt_route:",
        )
    frozen = len(graph.groups) - len(graph.prunable)
    stay = f"; {words.plural(frozen, 'group')} must stay, for reasons given below" if frozen else ""
    shrink = f"**{words.plural(len(graph.prunable), 'group')}** can shrink, with **{graph.prunable_units:,} units**"
    st.markdown(f"{shrink}{stay}.", help=tip(words.HELP["unit"]))


page()
