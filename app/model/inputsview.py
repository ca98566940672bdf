"""What flows into the layers, on the Model page: how much of what rounding loses can be made good for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from app import widgets
from app.model import catalog, studyview
from compression.jobs import inputs as study
from compression.plots import inputs as figures

EXPLAINED = (
    "Where a layer's inputs depend on each other, some weights can make good for the rounding of others: GPTQ, path "
    "following and AdaRound live on that. This runs a few training inputs through the network, without labels."
)
READ = {
    figures.ERRORS: "The farther apart the marks, the more a method gains that looks at inputs. A layer whose diamond "
    "is far right needs more bits.",
    figures.DIRECTIONS: "Few directions: most inputs follow from others, and much can be made good for.",
}


def section(subject: catalog.ChosenModel, path: Path | None) -> None:
    """The chart of every layer, or the way to it."""
    st.subheader("What flows into the layers", anchor=False)
    studyview.show(study.KIND, subject, path, study.request(), "Look at the layers' inputs", EXPLAINED, charts)


def charts(result: dict[str, Any]) -> None:
    """One of two charts, and what it says."""
    info = figures.inputs_info(result["rows"])
    st.caption(
        f"{result['images']} training inputs; weights at {result['bits']} bits, a step for each channel. {EXPLAINED}"
    )
    if not info.layers:
        st.caption("No layer of this network is called as a module of its own, so there is nothing to look at.")
        return
    labels = {name: title.capitalize() for name, title in figures.VIEWS.items()}
    form: dict[str, Any] = {"format_func": labels.__getitem__, "label_visibility": "collapsed"}
    chosen = widgets.switch("Show", labels, figures.ERRORS, "inputs_view", **form)
    alt = f"{labels[chosen]} of every layer; the table holds the same."
    widgets.chart(figures.inputs_figure(info, chosen), f"inputs_{chosen}", list(info.rows), alt)
    layer, factor = info.gain
    st.caption(f"{READ[chosen]} Most is made good in {layer}: {factor:.3g} times less error.")
