"""The Compare page: the front to choose from, and the run that was picked explained below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import names, nav, plain, state, widgets, words
from app.compare import candidateview, finals, reportview, targetview
from app.runs import precisionview, records, runlog
from app.terms import tip
from compression.plots import run_view, seeds, target
from compression.plots.axes import AXES, LATENCY, Axis
from compression.plots.candidates import CandidatesInfo, candidates_info, rows
from compression.plots.choice import choice_figure
from compression.runs.store import RunInfo
from compression.tasks import Metric

LOSSES = ("0.5", "1", "2", "5")
_HELP = {"bytes": "bytes", "rel_bops": "bops", "macs": "macs", "nominal_bytes": "planned_bytes", LATENCY: "latency"}
FIRST, SECOND = "the run", "the one beside it"


def draw(pair: finals.Pair, shipped: Sequence[RunInfo] = (), own: bool = True) -> None:
    """Everything about the runs of one model and data set; drawn again every few seconds while one goes on.

    ``shipped``: the runs of the gallery to draw; ``own``: whether the user's own are drawn too.
    """
    compared = finals.compared([*(runlog.listed() if own else []), *shipped], pair)
    if st.session_state.get("compare_live") and not compared.live:
        st.session_state["compare_live"] = False
        st.rerun()
    st.session_state["compare_live"] = compared.live
    if not compared.candidates:
        nothing_yet(compared, pair)
        return
    metric = compared.candidates[0].metric
    axis, loss, folded = controls(metric, compared.repeated())
    info = candidates_info(seeds.fold(compared.candidates, axis.field) if folded else compared.candidates, axis)
    picked, followed = chosen(info, loss)
    other = state.get("other") if state.get("other") != picked and info.mark(state.get("other")) else ""
    advice(info, loss, followed, picked)
    untimed(compared, info)
    if not info.marks:
        unshown(compared)
        return
    first, second = compared.candidate(picked), compared.candidate(other)
    left, right = st.columns([7, 5], gap="large")
    with left:
        aim = front(compared, info, picked, other, folded)
    if first is not None:
        with right:
            selectors(compared, info, picked, other)
            candidateview.summary(info, first)
    if aim is not None:
        targetview.section(compared, info, picked, aim)
    if first is not None:
        candidateview.details(first, second)
    unshown(compared)


def controls(metric: Metric, repeated: bool) -> tuple[Axis, float, bool]:
    """What is compared, how much worse the score may become, and whether seeds (if any are ``repeated``) are one."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        costs = "\n\n".join(f"**{axis.label}.** {words.HELP[_HELP[name]]}" for name, axis in AXES.items())
        axis = widgets.switch(
            "Size or work", AXES, "bytes", "cost", format_func=lambda name: AXES[name].label, help=tip(costs), wrap=True
        )
        worse = f"By how many {metric.points} the test {metric.label} may be worse than that of the dense model."
        label = f"Allowed loss, in {metric.points}"
        loss = widgets.switch(label, LOSSES, "1", "loss", help=tip(worse), wrap=True)
        one = "Runs that differ in their seed alone are one marker at their mean; bars: the standard deviation."
        folded = repeated and st.toggle("Fold seeds", value=True, key="seeds", bind="query-params", help=tip(one))
    return AXES[axis], float(loss), bool(folded)


def chosen(info: CandidatesInfo, loss: float) -> tuple[str, bool]:
    """The run in the address, or the one that the advice names; and whether it is the latter."""
    if info.mark(state.get("run")):
        return state.get("run"), False
    advised = info.cheapest(loss) or info.best or (info.live[-1] if info.live else None)
    return (advised.run if advised else ""), True


def front(
    compared: finals.ComparedRuns, info: CandidatesInfo, picked: str, other: str, folded: bool
) -> target.Target | None:
    """The largest chart; a click picks a run, or sets the target, which it returns."""
    aim = targetview.toggle(info)
    key = f"compare_front {info.axis.field}"
    alt = f"{info.sentence} The table below holds the same."
    select: dict[str, Any] = {"on_select": lambda: clicked(key, aim is not None), "selection_mode": "points"}
    lines = precisionview.lines([mark.run for mark in info.finished]) if info.axis.field == "bytes" else []
    widgets.plot(choice_figure(info, picked, other, layered=lines, aim=aim), key, alt, **select)
    st.caption(explained(info) + precisionview.legend(lines))
    done = {c.run: c.title for c in compared.candidates if not c.live}
    if done:
        reportview.button(info, {run: titled(run, done) for run in done}, picked, other)
    for mark in info.live:
        nav.link("runs", f"Still going: {mark.title}", run=mark.run)
    with st.expander("As a table", type="compact", key="compare_fold", on_change="rerun") as fold:
        if fold.open:
            listed = seeds.fold(compared.candidates, info.axis.field) if folded else compared.candidates
            shown = info.mark(picked)
            table(rows(info, listed), shown.run if shown else "")
            records.download([c.run for c in compared.candidates], "compare")
    return aim


def explained(info: CandidatesInfo) -> str:
    """How to read the chart, only what is on it."""
    parts = ["Up and to the left is better. Click a point to see its network."]
    if any(mark.beaten for mark in info.finished):
        parts.append(f"Faint: another run costs no more and is at least as {info.metric.adjective or 'good'}.")
    if any(mark.members for mark in info.finished):
        parts.append("With bars: the mean of several seeds, one standard deviation to each side.")
    if any(info.beside(mark) for mark in info.finished):
        parts.append("Small: runs of the gallery.")
    if info.live:
        parts.append("Runs still going are measured on validation data: they come onto the chart when they end.")
    if info.hidden:
        parts.append(f"Triangles at the bottom edge: runs whose {info.metric.label} is worse still.")
    if len(info.dense) > 1:
        parts.append("Several stars: these runs started from different dense models; each is compared to its own.")
    return " ".join(parts)


def clicked(key: str, aiming: bool) -> None:
    """A click on a marker: picks its run; where a target is set (``aiming``), any place becomes that."""
    points = st.session_state[key].selection.points
    if points and aiming:
        targetview.click(points[0])
        return
    run = str(points[0]["customdata"][0]) if points and points[0].get("customdata") else ""
    if run:
        state.put("other" if st.session_state.get("click_picks") == SECOND else "run", run)


def table(listed: Sequence[dict[str, Any]], picked: str) -> None:
    """The chart as a table; a row picks its run."""
    ids = [str(row["run"]) for row in listed]
    widgets.picker(listed, ids, picked, "compare_table", lambda run: state.put("run", run))


def advice(info: CandidatesInfo, loss: float, followed: bool, picked: str) -> None:
    """The answer to the page's question, for the loss that is allowed; ``picked`` is the run that is shown."""
    cheapest, metric = info.cheapest(loss), info.metric
    points = f"{loss:g} {metric.points.removesuffix('s') if loss == 1 else metric.points}"
    if cheapest is not None:
        title = plain.text(cheapest.title)
        text = f"{info.axis.least} run that loses at most {points}: **{title}**, {info.axis.show(cheapest.cost)}."
    elif info.best is not None:
        best = f"most {metric.adjective}" if metric.adjective else "best"
        text = f"No finished run stays within {points}. The {best} one: **{plain.text(info.best.title)}**."
    elif not info.marks:
        text = "No run has a measured latency yet: there is nothing to compare."
    else:
        text = "No run is finished yet: there is nothing to compare. Runs still going are listed below."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/recommend: {text}", width="content")
        named = cheapest or info.best
        if not followed and named is not None and picked not in (named.run, *named.members):
            st.button("Show this one", key="follow", type="tertiary", on_click=lambda: state.put("run", ""))
    if followed and state.get("run"):
        st.caption(
            "The run in the address is not on this chart: it is a sweep, or has no final point or no measured latency. "
            "This one is shown."
        )


def untimed(compared: finals.ComparedRuns, info: CandidatesInfo) -> None:
    """Which runs have no latency, where that is the cost, and how they get one."""
    missing = [c for c in compared.candidates if info.axis.field == LATENCY and not info.mark(c.run)]
    if not missing:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{words.plural(len(missing), 'run')} without a measured latency: it is measured while a bundle is made."
        )
        nav.link("export", "Make a bundle", run=missing[-1].run)


def selectors(compared: finals.ComparedRuns, info: CandidatesInfo, picked: str, other: str) -> None:
    """The picked run and a second one, without the mouse; every seed by itself."""
    shown = [c for c in compared.candidates if info.mark(c.run)]
    titles = {c.run: c.title + (" (still going)" if c.live else "") for c in shown}
    labels = {run: titled(run, titles) for run in titles}
    widgets.choice("Run", labels, picked, "pick_run", lambda run: state.put("run", run))
    if len(titles) < 2:
        return
    others = {"": "no other run"} | {run: label for run, label in labels.items() if run != picked}
    widgets.choice("Side by side with", others, other, "pick_other", lambda run: state.put("other", run))
    common: dict[str, Any] = {"default": FIRST, "required": True, "key": "click_picks"}
    st.segmented_control("A click on the chart picks", [FIRST, SECOND], on_change="ignore", **common)


def titled(run: str, titles: dict[str, str]) -> str:
    """A run's title; its id's last part too where another run has the same."""
    same = sum(title == titles[run] for title in titles.values()) > 1
    return f"{titles[run]} ({run[-7:]})" if same else titles[run]


def nothing_yet(compared: finals.ComparedRuns, pair: finals.Pair) -> None:
    """No point to draw: say why, and offer the next click."""
    waiting = [info for info in compared.unshown if info.state in run_view.ACTIVE]
    model, data = pair
    where = plain.text(names.subject(model, data))
    if waiting:
        text = (
            f"{words.plural(len(waiting), 'run')} of {where} just started or waiting: points appear here as they come."
        )
        widgets.empty(text, "runs", "Watch it in Runs", run=waiting[0].id)
    else:
        text = f"No run of {where} is finished: there is nothing to compare yet."
        widgets.empty(text, "budget", "Set up a run", model=model, data=data)
    unshown(compared)


def unshown(compared: finals.ComparedRuns) -> None:
    """What is not on the chart, and why."""
    if not compared.unshown:
        return
    with st.expander(f"Not shown: {words.plural(len(compared.unshown), 'run')} without a final point", type="compact"):
        for info in compared.unshown[:50]:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                widgets.state_badge(info.state)
                widgets.method_badge(info.method)
                nav.link("runs", names.request(info.budget), run=info.id)
                st.caption(plain.text(info.error or info.id))
