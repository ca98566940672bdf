"""The score that the smallest model may not fall below, asked in points below the dense model's validation score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app import widgets
from app.model import catalog, networks
from app.terms import tip
from compression.errors import CompressionError
from compression.tasks import ACCURACY, Metric

LOSSES = (0.5, 1.0, 2.0, 5.0)
CHEAP_MACS = 20e6
EXPLAINED = (
    "Tries the middle budget first and continues with the smaller or the larger half, so that of 9 budgets at most 4 "
    "are run. The score on validation data decides; test data only show how good the result is."
)


@dataclass(frozen=True)
class Search:
    """Whether only the smallest model is searched for, and its ``least`` score; ``None`` before that is known."""

    on: bool = False
    least: float | None = None

    @property
    def ready(self) -> bool:
        """Whether what is asked for can be started."""
        return not self.on or self.least is not None


def search(subject: catalog.ChosenModel, network: networks.Network, path: Path | None) -> Search:
    """The switch, and how much may be lost of the dense model's score."""
    if not st.toggle("Only find the smallest within a loss", key="find_smallest", help=tip(EXPLAINED)):
        return Search()
    dense = _dense(subject, network, path)
    if dense is None:
        return Search(on=True)
    score, metric = dense
    lost = _loss(metric)
    least = lowered(score, lost, metric)
    bound = "at least" if metric.better == "higher" else "at most"
    st.caption(f"Dense: {metric.show(score, 1)} on validation data. Keeps {bound} {metric.show(least, 1)}.")
    return Search(on=True, least=least)


def lowered(score: float, lost: float, metric: Metric) -> float:
    """The score that is ``lost`` shown units worse, within the ends of what can be kept."""
    least = score - (lost if metric.better == "higher" else -lost) / metric.scale
    low, high = (
        end + inward * 10.0**-metric.decimals / metric.scale if math.isfinite(end) else end
        for end, inward in ((metric.lowest, 1), (metric.highest, -1))
    )
    return min(max(least, low), high)


def _dense(subject: catalog.ChosenModel, network: networks.Network, path: Path | None) -> tuple[float, Metric] | None:
    """The dense model's score on validation data; a heavy network is measured after a click."""
    if path is None:
        return None
    measured = f"validation {path} {path.stat().st_mtime}"
    if network.graph.macs > CHEAP_MACS and not st.session_state.get(measured):
        st.session_state[measured] = st.button(
            "Measure the dense model on validation data", key="measure_validation", icon=":material/speed:"
        )
        if not st.session_state[measured]:
            return None
    try:
        evaluation, metric, _ = catalog.measured(subject, path, "validation")
    except CompressionError as error:
        widgets.problem(error)
        return None
    return evaluation.score, metric


def _loss(metric: Metric) -> float:
    """How much may be lost, in what differences of the metric are shown in."""
    name = f"{metric.title} that may be lost{f', in {metric.points}' if metric.points else ''}"
    if metric == ACCURACY:
        chosen = st.segmented_control(
            name, LOSSES, default=1.0, required=True, key="least_lost", format_func=lambda value: f"{value:g}"
        )
        return float(chosen)
    form: dict[str, Any] = {"format": f"%.{metric.decimals}f", "key": "least_lost_number"}
    return float(st.number_input(name, 0.0, None, 1.0, 10.0**-metric.decimals, **form))
