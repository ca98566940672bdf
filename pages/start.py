"""Start: what this is, a real run with one click, and the runs of late."""

from __future__ import annotations

import time
from collections.abc import Callable

import streamlit as st

from app import names, nav, plain, setup, theme, widgets, words
from app.compare import gallerybeside
from app.gallery import gallery, gallerycards, tour
from app.runs import runlog, sweepview
from compression.budget import Budget
from compression.errors import CompressionError
from compression.plots import front as figures
from compression.plots import front_data, run_view
from compression.runs.store import RunInfo

TRY = Budget(sparsity=0.3, epochs=6)  # ends within a point of the dense model, as gallery run geta-gentle
MOST_RECENT = 8
EVERY = "3s"


def invitation(picture: Callable[[], None]) -> None:
    """The sentence, the click that starts a run, the tour; beside them what it is all about, in one picture."""
    widgets.headline(
        "start",
        "Pick a network, see which of its channels belong together, decide where to spend sparsity and bits, and watch "
        "how good it stays at which size while **GETA** or **OPQ** compresses it. Everything runs on this machine.",
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        with st.container(border=True):
            st.markdown(
                "**See it happen.** A small network that reads handwritten digits loses 30 % of its channels, and the "
                "rest learn to work with 4 to 8 bits instead of 32. It takes about a minute on a fast processor."
            )
            pressed = st.button("Try it now", type="primary", icon=":material/play_arrow:", key="try")
            st.caption(f"{theme.style(TRY.method).label}, {names.describe(TRY.to_dict())}, {TRY.epochs:g} epochs")
            if pressed:
                begin()
        if tour.subject() is not None and not tour.current():
            with st.container(border=True):
                st.markdown("**Look around first.** Eight pages, one finished run, two minutes; nothing is trained.")
                if st.button("Take the tour", icon=":material/tour:", key="tour_begin"):
                    tour.go(1, setup.query)
    with right:
        picture()


def begin() -> None:
    """Start the default run and open it."""
    try:
        with st.spinner("Starting the run…"):
            run = runlog.start(TRY)
    except CompressionError as error:
        widgets.problem(error)
        return
    nav.go("runs", run=run, model=TRY.model, data=TRY.data)


def ways() -> None:
    """Where else to begin."""
    texts = {
        "model": "**Model.** Layers, parameters and MACs of a network, and how good it is on your data.",
        "groups": "**Groups.** Which channels can only be removed together, and why.",
        "budget": "**Budget.** Choose sparsity and bits; size and work follow at once.",
    }
    for column, (name, text) in zip(st.columns(len(texts)), texts.items(), strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(text)
            nav.link(name, f"Open {nav.PAGES[name].title}")


def recent(live: bool) -> None:
    """The newest runs, each a link to its live view; drawn again while one runs (``live``: when the page was drawn)."""
    infos = runlog.listed()
    if live and not any(info.state in run_view.ACTIVE for info in infos):
        st.rerun()  # the last one has ended: the picture above may show it
    newest = [info for info in infos if info.sweep is None][:MOST_RECENT]
    if newest:
        st.subheader("Recent runs", anchor=False)
        for info in newest:
            row(info)


def row(info: RunInfo) -> None:
    """One run: its state, method and budget, and its age."""
    text = names.describe(info.budget)
    if info.runs:
        text = f"{sweepview.title(info.id, info.runs)}, {names.subject(info.model, info.data)}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        widgets.state_badge(info.state)
        widgets.method_badge(info.method)
        nav.link("runs", text, run=info.id, model=info.model, data=info.data)
        st.caption(words.ago(time.time() - info.created))


def front(infos: list[RunInfo]) -> bool:
    """Finished runs of the newest run's model and data on one chart; whether there is anything to draw."""
    newest = next((info for info in infos if info.state == "done" and not info.runs), None)
    if newest is None:
        return False
    runs, pair = runlog.front_runs([], infos, newest.model, newest.data), (newest.model, newest.data)
    if gallerybeside.few(infos, pair):
        shipped = [e for e in gallery.exhibits() if not e.info.runs and (e.info.model, e.info.data) == pair]
        runs += [gallery.front_run(e) for e in shipped if gallery.comparable(e.info)]
    info = front_data.front_info(runs)
    if not info.finals:
        return False
    beside = " (small: runs of the gallery)" if any(map(info.beside, info.finals)) else ""
    st.markdown(f"**Your runs: {plain.text(names.subject(newest.model, newest.data))}**{beside}")
    widgets.chart(figures.front_figure(info, 300), "start_front", info.rows, info.sentence)
    return True


def page() -> None:
    """The page from top to bottom."""
    infos = runlog.listed()
    invitation(lambda: None if front(infos) else gallerycards.picture())
    live = any(info.state in run_view.ACTIVE for info in infos)
    st.fragment(run_every=EVERY if live else None)(recent)(live)
    gallerycards.draw()
    ways()


page()
