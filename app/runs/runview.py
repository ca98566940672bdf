"""One run on the page: its state, the front, its curves, the result; redrawn every second while it goes on."""

from __future__ import annotations

import time

import streamlit as st

from app import explained, names, nav, plain, widgets, words
from app.gallery import gallery, galleryview
from app.runs import (
    fronts,
    headline,
    jointview,
    outcome,
    pictureview,
    runbuttons,
    runlog,
    sweepview,
    timeline,
    unitview,
)
from app.terms import tip
from compression.errors import CompressionError
from compression.plots import run as figures
from compression.plots import run_view, theme
from compression.runs.bisect import target_words
from compression.runs.store import RunInfo

FEW_LAYERS, BITS_HEIGHT = 12, 300  # so many layers fit into the chart of bits that is there from the start


def draw(run: str, set_up: nav.SetUp, units: unitview.Units) -> None:
    """The whole view of a run or sweep; reruns the page once when it has ended."""
    now = runlog.view(run)
    infos = runlog.around(run)
    if not now.active and st.session_state.get("watched") == run:
        st.session_state["watched"] = ""
        st.rerun()
    if now.active:
        st.session_state["watched"] = run
    say_when_done(run, now.state)
    info = next((info for info in infos if info.id == run), None)
    sweep, children = runlog.is_sweep(run), runlog.children(run)
    sweepview.back(info)
    heading(now, info, sweep)
    if sweep:
        sweepview.smallest(now.run)
    headline.show(now, set_up)
    explained.sources(now.method)
    if gallery.is_gallery(run):
        galleryview.about(gallery.find(run))
    beside = st.container() if sweep or now.state == "done" else timeline.beside(now)
    with beside:
        fronts.section(now, infos, children, sweep)
    if sweep:
        sweepview.table(run, children, infos)
        return
    unitview.section(now, units)
    pictureview.section(now)
    if now.active or now.points or now.steps:
        curves(now)
    jointview.section(now)
    if now.messages or now.active:
        with st.expander("Messages of the run", icon=":material/notes:"):
            st.text("\n".join(now.messages) or "Nothing yet.")
    outcome.show(now)
    if gallery.is_gallery(run):
        galleryview.origin(gallery.find(run), set_up)


def say_when_done(run: str, state: str) -> None:
    """One toast when a run that was watched has ended."""
    before = st.session_state.get("last_seen", ("", ""))
    st.session_state["last_seen"] = (run, state)
    if before == (run, "running") and state == "done":
        st.toast("The run is done.", icon=":material/check:")


def heading(now: run_view.RunView, info: RunInfo | None, sweep: bool) -> None:
    """What runs, how far it is, how long it will take, and the button that stops it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        widgets.state_badge(now.state)
        widgets.method_badge(now.method)
        sweep_of = f"{sweepview.title(now.run, info.runs)}, " if sweep and info is not None else ""
        shipped = gallery.is_gallery(now.run)
        pair = gallery.subject(gallery.find(now.run).info) if shipped else names.subject(now.model, now.data)
        named = "" if shipped else runlog.name(now.run)
        settings = "" if sweep else f", {names.request(now.budget)}"
        text = plain.text(f"{named}{': ' if named else ''}{sweep_of}{pair}{settings}")
        st.markdown(f"**{text}**", width="content", help=tip(plain.text(names.path(now.model)) or None))
        widgets.gallery_badge(shipped)
        if not shipped:
            title = names.title(now.run, now.budget, info.runs if info is not None else 0)
            runbuttons.draw(now.run, now.state, title, part=info is not None and info.sweep is not None)
    if now.active:
        st.progress(now.progress, text=_progress(now, info))
        if sweep and (target := target_words(runlog.folder(now.run).spec())):
            st.caption(target)
    elif now.state == "failed" and now.error:
        widgets.problem(CompressionError(now.error))
    elif now.state == "lost":
        widgets.problem(
            CompressionError(
                "The process of this run ended without reporting it. Its points are shown, and it can be resumed."
            )
        )
    else:
        st.caption(f"{plain.text(now.run)}, {'took' if now.state == 'done' else 'worked'} {words.duration(now.worked)}")


def _progress(now: run_view.RunView, info: RunInfo | None) -> str:
    if now.state == "queued":
        return "Waiting for a free slot"
    if now.total_steps is None:
        return "Preparing: data, trace and the score of the dense model"
    phase = info.phase if info is not None and info.phase else ""
    stage = f"{theme.stage(phase, now.method).label}, " if phase else ""
    seconds = now.remaining(time.time())
    remaining = f", about {words.duration(seconds)} left" if seconds is not None else ""
    if now.unit != "steps":
        return f"{now.step:,} of {now.total_steps:,} {now.unit} done{remaining}"
    return f"{stage}step {now.step:,} of {now.total_steps:,}{remaining}"


def curves(now: run_view.RunView) -> None:
    """Score, loss, sparsity and bits over the steps, the stages shaded behind them.

    They are drawn from the start, the stages to come as they are planned, so that nothing below them moves.
    """
    measured = [*([now.baseline] if now.baseline else []), *now.points]
    unit, stages = figures.counted(now.unit), (*now.stages, *now.ahead)
    infos = (
        (now.metric.title, figures.score_info(now.points, now.steps, stages, now.metric, unit), "score"),
        ("Loss", figures.loss_info(now.points, now.steps, stages, unit), "loss"),
        ("Sparsity", figures.sparsity_info(measured, stages, unit), "sparsity"),
    )
    cells = [*st.columns(2), *st.columns(2)]
    for cell, (title, info, key) in zip(cells, infos, strict=False):
        with cell:
            st.markdown(f"**{title}**")
            if not info.curves and not now.active:
                st.caption("Nothing of it was measured before the run ended.")
                continue
            widgets.chart(
                figures.curves_figure(info),
                key,
                info.rows,
                f"{title} over the {now.unit} of the run; the table holds the same.",
                live=now.active,
            )
    with cells[3]:
        bits(now)


def bits(now: run_view.RunView) -> None:
    """Bits per layer over time, weights or activations."""
    unit = figures.counted(now.unit)
    info = figures.bits_info(now.points, unit=unit)
    acts = figures.bits_info(now.points, "activation", unit=unit)
    st.markdown("**Bits per layer**")
    if acts.layers:
        kind = widgets.switch("of", ("weight", "activation"), "weight", "bits_kind", label_visibility="collapsed")
        info = acts if kind == "activation" else info
    if not info.layers and not now.active:
        st.caption("No layer had a bit-width of its own.")
        return
    tall = None if len(info.layers) > FEW_LAYERS else BITS_HEIGHT
    widgets.chart(
        figures.bits_figure(info, (*now.stages, *now.ahead), tall),
        "bits_map",
        info.rows,
        f"Bit-width of each layer over the {now.unit} of the run; the table holds the same.",
        live=now.active,
    )
