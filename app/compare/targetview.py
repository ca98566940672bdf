"""A target on Compare, set by a click: which runs reach it, and a budget of every method that is forecast to fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import streamlit as st

from app import names, nav, plain, state, theme, widgets, words
from app.budget import live_forecast, rerun, start_run
from app.compare import finals
from app.model import catalog
from app.runs import permissions, runlog
from app.terms import tip
from compression import match, methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.plots import target
from compression.plots.candidates import CandidatesInfo

KEY, SIZE, SCORE, OFFER = "target", "target_kb", "target_score", "target_method"
SMALLEST = 0.01  # kB
HELP = "A click on the chart says how small and how good the model should be. Budgets of that size are worked out."


def toggle(info: CandidatesInfo) -> target.Target | None:
    """The target, where one is being set on this chart."""
    usual = target.usual(info)
    if info.axis.field != "bytes" or usual is None:
        return None
    on = st.toggle("Set a target", key=KEY, bind="query-params", help=tip(HELP))
    return chosen(usual) if on else None


def chosen(usual: target.Target) -> target.Target:
    """The target that was clicked or typed; at first the smallest size and the best score there are."""
    shown = usual.metric.shown(usual.score)
    for key, value in ((SIZE, usual.bytes / 1000), (SCORE, shown)):
        if key not in st.query_params:
            st.session_state.setdefault(key, round(value, 2))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.number_input("At most, in kB", SMALLEST, step=0.1, key=SIZE, bind="query-params", width=140)
        unit = f", in {usual.metric.unit.strip()}" if usual.metric.unit.strip() else ""
        least = "least" if usual.metric.better == "higher" else "most"
        label = f"{usual.metric.title} at {least}{unit}"
        score = st.number_input(label, step=0.1, key=SCORE, bind="query-params", width=200)
    return target.Target(1000 * size, score / usual.metric.scale, usual.metric)


def click(point: dict[str, Any]) -> None:
    """The place that was clicked becomes the target."""
    st.session_state[SIZE] = max(SMALLEST, round(float(point["x"]) / 1000, 2))
    st.session_state[SCORE] = round(float(point["y"]), 2)


def section(compared: finals.ComparedRuns, info: CandidatesInfo, picked: str, aim: target.Target) -> None:
    """Which finished run comes nearest, and what each method could be asked for."""
    st.subheader("What reaches the target?", anchor=False)
    answer(info, aim)
    try:
        budget = _base(compared, picked)
        subject = catalog.of_budget(budget)
        path = catalog.weights_file(subject)
        with st.spinner("Working out a budget for each method…"):
            changed = path.stat().st_mtime if path else 0.0
            offers = _offers(json.dumps(budget.to_dict(), sort_keys=True), aim.bytes, subject, path, changed)
    except CompressionError as error:
        widgets.problem(error)
        return
    table(info, aim, [offer for offer in offers if offer.match is not None])
    rest = [offer for offer in offers if offer.match is None]
    if rest:
        with st.expander(f"Without a forecast: {words.plural(len(rest), 'method')}", type="compact"):
            for offer in rest:
                st.caption(f"{theme.style(offer.method).label}: {plain.text(offer.reason)}")
    begin(next((offer for offer in offers if offer.method == _method(offers)), None), subject, path)


def answer(info: CandidatesInfo, aim: target.Target) -> None:
    """The finished runs that are as small and as good, or the one that comes nearest."""
    reached = [mark for mark in info.finished if aim.reached(mark)]
    closest = target.nearest(info.finished, aim)
    if closest is None:
        return
    came_to = f"**{plain.text(closest.title)}**, {info.axis.show(closest.cost)} with {info.metric.show(closest.score)}"
    if reached:
        text = f"{words.plural(len(reached), 'finished run')} of this chart: the smallest is {came_to}."
    else:
        text = f"No finished run of this chart does. The nearest: {came_to}."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(text, width="content")
        st.button("Show it", key="show_nearest", type="tertiary", on_click=lambda: state.put("run", closest.run))


def table(info: CandidatesInfo, aim: target.Target, offers: list[match.Offer]) -> None:
    """A budget of each method, and its finished run that comes nearest; a row is picked to be started."""
    near = {
        offer.method: target.nearest([mark for mark in info.finished if mark.method == offer.method], aim)
        for offer in offers
    }
    far = float("inf")
    offers.sort(key=lambda offer: aim.distance(mark) if (mark := near[offer.method]) else far)
    rows = []
    for offer in offers:
        assert offer.match is not None
        mark = near[offer.method]
        size = words.size(offer.match.value)
        ended = f"{info.axis.show(mark.cost)}, {info.metric.show(mark.score)}" if mark else "–"
        rows.append(
            {
                "method": theme.style(offer.method).label,
                "settings": methods.get(offer.method).request(offer.match.budget),
                "forecast": size if offer.match.met else f"{size}: its smallest",
                "its nearest finished run": ended,
            }
        )
    ids = [offer.method for offer in offers]
    if _method(offers) not in ids and ids:
        st.session_state[OFFER] = ids[0]
    widgets.picker(rows, ids, _method(offers), "target_table", lambda name: st.session_state.update({OFFER: name}))
    st.caption(
        "Sizes are forecasts by count; the packed file may be smaller or larger. No score can be forecast: a run "
        "shows it."
    )


def begin(offer: match.Offer | None, subject: catalog.ChosenModel, path: Path | None) -> None:
    """Start the budget that was picked, or set it up on the Budget page."""
    if offer is None or offer.match is None:
        return
    budget, label = offer.match.budget, theme.style(offer.method).label
    reason = start_run.obstacle(subject, path)
    with st.container(horizontal=True, vertical_alignment="center"):
        icon = ":material/play_arrow:"
        pressed = st.button(f"Start {label} run", key="target_start", type="primary", icon=icon, disabled=bool(reason))
        if st.button("Set up on Budget", key="target_set_up", icon=nav.PAGES["budget"].icon):
            rerun.go(budget.to_dict())
        st.caption(reason or plain.text(names.request(budget.to_dict())))
    if pressed:
        start_run.submit(lambda: _start(budget))


def _start(budget: Budget) -> str:
    permissions.check(budget)
    return runlog.start(budget)


def _method(offers: list[match.Offer]) -> str:
    """The method that is picked."""
    return str(st.session_state.get(OFFER, offers[0].method if offers else ""))


def _base(compared: finals.ComparedRuns, picked: str) -> Budget:
    """The training and bounds that offers share: those of the picked run, else of any.

    Raises:
        CompressionError: its budget cannot be read here.
    """
    run = picked or compared.candidates[0].run
    budget = Budget.from_dict(rerun.of_run(run))
    catalog.allow(budget.model, budget.data)
    return budget


@st.cache_data(max_entries=64, show_spinner=False)
def _offers(
    budget: str, size: float, _subject: catalog.ChosenModel, path: Path | None, changed: float
) -> list[match.Offer]:
    """The budget of every method at a size, remembered by ``budget`` (JSON) and when the weights ``changed``."""
    subject = live_forecast.LiveSubject(_subject, path)
    return match.offers(subject, Budget.from_dict(json.loads(budget)), "bytes", size)
