"""A sweep on the Runs page: what it looks for and has reached, its runs with their results, and the way back to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import names, nav, plain, state, theme, widgets, words
from app.runs import records, runlog
from compression.errors import CompressionError
from compression.runs.store import RunInfo
from compression.tasks import ACCURACY, Metric


def title(run: str, runs: int) -> str:
    """``sweep of 6 runs``; of a search among budgets, which ends before it has tried all, how many it has begun."""
    if target(run) is None:
        return f"sweep of {words.plural(runs, 'run')}"
    begun = sum(info.sweep == run and info.started is not None for info in runlog.around(run))
    return f"search among {runs} budgets ({begun} run)"


def target(run: str) -> float | None:
    """The score that a search must keep, on validation data; ``None`` for any other run."""
    find = runlog.folder(run).spec().get("find") or {}
    least = find.get("min_score", find.get(f"min_{ACCURACY.name}"))  # version 0.1 knew no other metric
    return None if least is None else float(least)


def show(run: str) -> None:
    """Open another run; the address follows."""
    state.put("run", run)
    st.rerun()


def back(info: RunInfo | None) -> None:
    """From a run of a sweep to the whole sweep."""
    if info is not None and info.sweep is not None:
        label = "Part of a sweep: see all of it"
        if st.button(label, key="sweep", icon=":material/arrow_back:", type="tertiary"):
            show(info.sweep)


def smallest(run: str) -> None:
    """What a search among budgets looks for, and the run it ended with."""
    least = target(run)
    if least is None:
        return
    metric = runlog.metric(run)
    enough = f"{metric.show(least)} or {'more' if metric.better == 'higher' else 'less'} on validation data"
    result = runlog.outcome(run) or {}
    if "found" not in result:
        st.markdown(f"Looking for the smallest model with **{enough}**.")
    elif result["found"] is None:
        st.markdown(f"None of these budgets keeps {enough}.")
    else:
        _smallest_one(result["found"], enough)


def _smallest_one(run: str, enough: str) -> None:
    done = runlog.outcome(run)
    budget = names.request(runlog.folder(run).spec()["budget"])
    came_to = f": **{plain.text(_result(done))}**" if done else ""
    st.markdown(f"The smallest with {enough}: {plain.text(budget)}{came_to}.")
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Open the smallest", key="found", type="primary", icon=":material/target:"):
            show(run)
        if done:
            nav.link("export", "Export it", run=run)


def _result(done: dict[str, Any]) -> str:
    return f"{words.size(done['final']['bytes'])}, {words.scored(done)}"


def table(run: str, children: Sequence[str], infos: Sequence[RunInfo]) -> None:
    """The runs of a sweep as rows, each with its state and result; a row opens its run."""
    st.subheader("Runs of this sweep", anchor=False)
    by_id = {info.id: info for info in infos}
    begun = [child for child in children if child in by_id]
    if state.get("run") in begun:
        st.rerun()  # one was picked here
    listed = [_row(by_id[child]) for child in begun]
    formats = {"BOPs %": st.column_config.NumberColumn(format="%.2f")}
    widgets.picker(listed, begun, "", f"runs of {run}", lambda child: state.put("run", child), formats=formats)
    records.download(begun, "sweep")


def _row(info: RunInfo) -> dict[str, Any]:
    """A run of a sweep in numbers; of one whose files are damaged what is wrong with them."""
    row = {
        "state": widgets.state_words(info.state),
        "method": theme.style(info.method).label,
        "settings": names.request(info.budget),
        "seed": info.budget.get("seed"),
    }
    try:
        done = runlog.outcome(info.id)
    except CompressionError as error:
        return {**row, "state": str(error)}
    if not done or not done.get("final"):
        return row
    final, metric = done["final"], Metric.from_result(done)
    score = round(metric.shown(final["score"]), metric.decimals + 1)
    return {**row, f"test {metric.axis}": score, "bytes": round(final["bytes"]), "BOPs %": 100 * final["rel_bops"]}
