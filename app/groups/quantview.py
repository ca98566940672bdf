"""Quantizers on the Groups page: which ones are drawn, merged or as traced, and one layer before and after."""

from __future__ import annotations

import streamlit as st

from app import plain, state, widgets, words
from app.groups import drawing, quantized
from app.model import catalog
from app.terms import tip
from compression.plots import base, placing
from compression.plots import graph as figures

MERGED, TRACED = "merged", "as traced"
WHY = (
    "GETA's quantization-aware dependency graph: the operations of a quantizer become one node, those on a weight "
    "become part of its layer. They round numbers and move no channel, so the groups stay those of the network "
    "without quantizers."
)
NOTHING = "Nothing to merge: this network has no quantizers. Attach some with the choice beside this."


def choose(subject: catalog.ChosenModel) -> quantized.View:
    """The controls; what they ask for."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.selectbox(
            "Network drawn",
            list(quantized.LABELS),
            key="quantizers",
            bind="query-params",
            format_func=quantized.LABELS.__getitem__,
            width=280,
            help=tip(
                "Attach a quantizer to the weight and to the input of every convolution and linear layer, as GETA "
                "does: each as this library's single operation, or spelled out in plain operations (abs, log, exp, "
                "round, …) as other projects write theirs. Only the drawing changes, not the model."
            ),
        )
        count = len(quantized.traced(quantized.View(subject, kind)).graph.branches)
        if not count:
            st.session_state["quantizers_drawn"] = MERGED
        drawn = st.segmented_control(
            "Quantizers",
            [MERGED, TRACED],
            default=None if "quantizers_drawn" in st.session_state else MERGED,
            key="quantizers_drawn",
            disabled=not count,
            required=True,
            help=tip(WHY if count else NOTHING),
        )
    if count:
        st.caption(f"{words.plural(count, 'quantizer')}. {WHY}")
    return quantized.View(subject, kind, drawn != TRACED)


def before_and_after(subject: catalog.ChosenModel, kind: str) -> None:
    """The quantizers of one layer, each operation a node, and merged: side by side."""
    views = [quantized.View(subject, kind, merged) for merged in (False, True)]
    graphs = [quantized.traced(view) for view in views]
    if not graphs[0].graph.branches:
        return
    group = state.get("group")
    members = [m.name for g in graphs[0].graph.groups if g.id == group for m in g.members if m.role == "producer"]
    layer = quantized.layer_of(graphs[0].plain, members)
    with st.expander(f"One layer, before and after: {plain.text(layer)}", expanded=True):
        for column, view, network, title in zip(st.columns(2), views, graphs, ("As traced", "Merged"), strict=True):
            part = quantized.around(network.plain, layer)
            info = placing.graph_info(part, network.node_groups, drawing.close_up(view, layer), selected=group or None)
            column.markdown(f"**{title}**: {words.plural(len(part['nodes']), 'node')}")
            alt = f"{layer} and its quantizers, {title.lower()}: {', '.join(n['kind'] for n in part['nodes'])}."
            fig = figures.graph_figure(info, legend=False)
            config = {**base.CONFIG, "displayModeBar": False}
            column.plotly_chart(plain.figure(fig), key=f"close {title} {kind} {layer} {group}", config=config, alt=alt)
            with column:
                widgets.table_of(info.rows, f"close_{title.lower().replace(' ', '_')}")
