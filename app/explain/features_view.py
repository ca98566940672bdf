"""What the channels of a layer make of a picture, in the original and in the compressed model."""

from __future__ import annotations

import streamlit as st

from app import plain, state, widgets
from app.explain import explained
from app.runs import runlog
from compression.errors import CompressionError
from compression.plots import features as figures


def draw(run: str, run_key: explained.Key, image: explained.Pixels, what: str) -> None:
    """Folded: a layer to choose, and its channels; ``what`` says of which picture."""
    with st.expander(
        "What its channels see", icon=":material/grid_view:", key="channels_fold", on_change="rerun"
    ) as folded:
        if not folded.open:
            return
        graph = explained.dense_graph(run_key)
        layers = explained.layers_with_maps(run_key)
        if not layers:
            st.caption("No convolution is in both models.")
            return
        selected = state.get("group")
        layer = st.selectbox("Layer", layers, layers.index(selected) if selected in layers else 0, key="features_layer")
        units = (runlog.outcome(run) or {}).get("units") or {}
        try:
            maps = explained.features(run_key, graph, units, layer, image)
        except CompressionError as error:
            widgets.problem(error)
            return
        info = figures.features_info(maps.layer, maps.dense, maps.small, maps.removed)
        first = f", the first {len(info.removed)} of {info.channels}" if info.channels > len(info.removed) else ""
        st.caption(
            f"Outputs of {plain.code(layer)} for {what}{first}: the original above, the compressed model below. Blue "
            "is negative, orange positive, each channel on its own scale. Crossed out: the channel is removed."
        )
        widgets.chart(figures.features_figure(info), "features", info.rows, info.sentence)
