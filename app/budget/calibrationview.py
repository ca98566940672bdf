"""How many inputs a method needs that learns from a few of them, on the Budget page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from app import plain, widgets
from app.model import catalog, studyview
from compression import methods
from compression.budget import Budget
from compression.jobs import calibration as study
from compression.plots import calibration as figures

EXPLAINED = (
    "{method} learns from a few training inputs, without labels. How many are enough, and does it matter which? This "
    "compresses the model with {counts} of them, {draws} draws each, and measures each on validation data."
)


def section(subject: catalog.ChosenModel, budget: Budget, path: Path | None) -> None:
    """The chart for this budget, or the way to it."""
    question = study.request(budget)
    *others, most = (f"{count:,}" for count in question["counts"])
    method = methods.get(budget.method).info
    explained = EXPLAINED.format(
        method=plain.text(method.label), counts=f"{', '.join(others)} and {most}", draws=question["draws"]
    )

    def draw(result: dict[str, Any]) -> None:
        info = figures.calibration_info(result)
        alt = "Score by the number of inputs, a mark for each draw; the table holds the same."
        widgets.chart(figures.calibration_figure(info, budget.method), "calibration", info.rows, alt)
        st.caption(
            f"{explained} Dashed: rounding to nearest on the same grid, before any input was looked at. From "
            f"**{info.enough:,}** on, more inputs change less than which ones are drawn."
        )

    studyview.show(study.KIND, subject, path, question, "Try numbers of inputs", explained, draw)
