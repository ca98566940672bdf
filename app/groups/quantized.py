"""The network with quantizers on it, as the Groups page draws it: none, one node each, or every operation they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import live
from app.model import catalog, networks, tracing

NONE, OWN, PLAIN = "", "own", "plain"
LABELS = {NONE: "as the network is", OWN: "attached, one operation each", PLAIN: "attached, in plain operations"}
BITS = 8  # of the quantizers shown; the graph does not depend on it


@dataclass(frozen=True)
class View:
    """What is drawn: the model, which quantizers are put on it (``NONE``, ``OWN``, ``PLAIN``), and whether merged."""

    subject: catalog.ChosenModel
    quantizers: str = NONE
    merged: bool = True


def traced(view: View) -> networks.Network:
    """The graph to draw; groups are those of the network without quantizers.

    Raises:
        CompressionError: the model cannot be built at this size, does not run, or takes no quantizers.
    """
    return catalog.traced(view.subject) if view == View(view.subject) else _traced(view)


@st.cache_resource(max_entries=8, show_spinner="Tracing the network with its quantizers…")
def _traced(view: View) -> networks.Network:
    subject = view.subject
    if view.quantizers == NONE:
        return networks.Network(tracing.graph(subject, view.merged))
    from compression import zoo
    from compression.graph import trace
    from compression.quant import quantize, written_out

    example = zoo.example(subject.model, input=subject.input)
    with live.memory().work(subject.model, tracing.need(subject.model, subject.input, subject.classes)):
        model = zoo.build(subject.model, subject.input, subject.classes)
        model = quantize(
            model,
            BITS,
            calibration=[example if isinstance(example, dict) else (example,)],
            exponent=view.quantizers == PLAIN,
        )
        if view.quantizers == PLAIN:
            model = written_out(model)
        return networks.Network(trace(model, example, merge=view.merged))


def around(graph: Mapping[str, Any], layer: str) -> dict[str, Any]:
    """The part of a ``graph`` JSON that one layer's quantizers are in: what comes in, their nodes, the layer."""
    ends = {node["id"] for node in graph["nodes"] if node.get("layer") == layer}
    branch_nodes = {n for branch in graph["branches"] if ends & set(branch["target"]) for n in branch["nodes"]} | ends
    entries = {start for start, end in graph["edges"] if end in branch_nodes}
    shown = branch_nodes | entries
    return {
        **graph,
        "nodes": [node for node in graph["nodes"] if node["id"] in shown],
        "edges": [edge for edge in graph["edges"] if edge[1] in branch_nodes and edge[0] in shown],
    }


def layer_of(graph: Mapping[str, Any], parameters: Sequence[str]) -> str:
    """The layer to show closely: the first one with quantizers among these parameters' layers, else of all."""
    named = [parameter.rpartition(".")[0] for parameter in parameters]
    branched = {end for branch in graph["branches"] for end in branch["target"]}
    layers = [node["layer"] for node in graph["nodes"] if node.get("layer") and node["id"] in branched]
    return next((layer for layer in layers if layer in named), layers[min(1, len(layers) - 1)] if layers else "")
