"""Saliency on the Budget page: do gradients and conductance find the same channels small as magnitude does?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app import names, plain, widgets
from app.model import catalog, studyview
from compression import data as datasets
from compression import tasks
from compression.jobs import saliency as study
from compression.plots import saliency as figures

EXPLAINED = (
    "Which channels matter? Magnitude looks at weights alone; Taylor at what the loss would change without the "
    "channel; gradient × activation and conductance (both by Captum) at what flows through it on real images."
)
READ = {
    "rank": "1: the criterion puts a group's channels in the same order as magnitude. Near 0: magnitude says little "
    "about which of them matter. Below 0: the small ones matter more.",
    "share": "Grey bar: the group's part of all channels. A marker right of its end: the group holds more of what "
    "matters than its size suggests, so bound its sparsity; left of it: much can be removed.",
}


def section(
    subject: catalog.ChosenModel, path: Path | None, draw: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """The criteria beside each other for this model; conductance follows paths between images, so it needs some.

    ``draw`` shows the study's result instead of the charts of the Budget page.
    """
    if not tasks.attributable(subject.data):
        many, task = datasets.kind(subject.data).many, datasets.task(subject.data)
        label = plain.text(names.data_label(subject.data))
        st.caption(f"This is measured along paths between images that are classified; {label} holds {many} for {task}.")
        return
    studyview.show(study.KIND, subject, path, study.request(), "Score every channel", EXPLAINED, draw or charts)


def charts(result: dict[str, Any]) -> None:
    """One of two charts, and what it says."""
    st.caption(f"{EXPLAINED} {result['images']} validation images, of the dense model's answer.")
    if not result["rows"]:
        st.caption("No channel of this network can be removed, so there is nothing to rank.")
        return
    info = figures.saliency_info(result["rows"], result["criteria"])
    labels = {name: title.capitalize() for name, title in figures.MEASURES.items()}
    form: dict[str, Any] = {"format_func": labels.__getitem__, "label_visibility": "collapsed"}
    chosen = widgets.switch("Show", labels, "rank", "saliency_measure", **form)
    alt = f"{labels[chosen]} of every group by criterion; the table holds the same."
    widgets.chart(figures.saliency_figure(info, chosen), f"saliency_{chosen}", info.rows, alt)
    st.caption(f"{READ[chosen]} {info.sentence if chosen == 'rank' else ''}")
