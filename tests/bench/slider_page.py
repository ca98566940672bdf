"""A page for tests/bench/notebook.py: a forecast under Streamlit's slider (``native``) or the notebook's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import streamlit as st

from compression import methods
from compression.budget import Budget
from compression.forecast import Subject
from compression.plots import components, forecast
from compression.widgets import panel
from compression.widgets.subject import explored

MOUNT = """
export default function ({ data, parentElement, setStateValue }) {
  let form = parentElement.querySelector(".cx-sliders");
  if (!form) {
    form = sliders((field, value) => setStateValue("move", value));
    parentElement.append(form);
    form.build(data.controls);
    form.show(data.values);
  }
}
"""


@st.cache_resource
def _subject() -> Subject:
    return explored("resnet8", "mnist5k", Path("runs"), {}).subject


@st.cache_resource
def _component() -> Any:
    script = components.script("components/front.js", "components/sliders.js") + MOUNT
    return st.components.v2.component("bench_slider", css=components.style("components/explore.css"), js=script)


subject = _subject()
draft = Budget(method=methods.default())
if sys.argv[1] == "native":
    share = st.slider("Channels removed", 0.0, 0.98, 0.3, 0.01)
else:
    control = next(each for each in panel.controls(draft, subject.graph) if each["field"] == "sparsity")
    plain = {**control, "alternative": False}
    data = {"controls": [plain], "values": {"sparsity": 0.3}}
    result = _component()(key="slider", data=data, on_move_change=lambda: None)
    share = result.move if result.move is not None else 0.3
budget = draft.replace(asks={"sparsity": share})
answer = methods.get(budget.method).forecast(subject, budget)
for cell in forecast.figures(answer, subject.graph.prunable_units):
    st.metric(cell.label, cell.value, cell.note)
