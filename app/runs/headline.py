"""The result of a run in four figures, and what to do with it: on Runs, Compare and Export the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import nav, widgets, words
from app.runs import precisionview, runlog
from compression.plots import run_view
from compression.plots.comparison import change
from compression.tasks import Metric


def show(now: run_view.RunView, set_up: nav.SetUp) -> None:
    """What a finished run comes to and the next click; of one that stopped early only the latter, else nothing."""
    done = runlog.outcome(now.run)
    if done is not None and "runs" not in done:
        read = precisionview.picked(now.run, done)
        figures(read["final"], read["baseline"], Metric.from_result(read))
    if not now.active:
        actions(now, set_up, done is not None and "runs" not in done)


def figures(point: Mapping[str, Any], dense: Mapping[str, Any] | None, metric: Metric, live: bool = False) -> None:
    """Size, score, MACs and BOPs of a point, each with what it is compared to.

    ``dense`` is None where the dense model was not measured on the same data; ``live``: the point is an estimate on
    validation data.
    """
    size, score, work = point["bytes"], point["score"], point["macs"]
    smaller = f"{words.ratio(dense['bytes'] / size)} smaller than {words.size(dense['bytes'])}" if dense else ""
    share = f"{words.share(work / dense['macs'], 0)} of {words.count(dense['macs'])}" if dense else ""
    widgets.metrics(
        ("Estimated size" if live else "Packed size", words.size(size), smaller, words.HELP["bytes"]),
        (
            f"{'Validation' if live else 'Test'} {metric.label}",
            metric.show(score),
            change(metric, dense["score"], score) if dense else "",
            metric.explained,
        ),
        ("MACs", words.count(work), share, words.HELP["macs"]),
        ("BOPs", words.share(point["rel_bops"], 2), "of the dense fp32 model", words.HELP["bops"]),
    )


def actions(now: run_view.RunView, set_up: nav.SetUp, done: bool) -> None:
    """Where to go from a run that has ended: ``done``, with a model."""
    where = {"model": now.model, "data": now.data}
    with st.container(horizontal=True, vertical_alignment="center"):
        if done:
            if st.button("Export", key="to_export", type="primary", icon=nav.PAGES["export"].icon):
                nav.go("export", run=now.run, **where)
            nav.link("compare", "Compare", run=now.run, **where)
            nav.link("explain", "Explain", run=now.run, **where)
        nav.link("budget", "Set up another run", **set_up(now.run))
