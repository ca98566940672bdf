"""One run that was picked to be looked at: what it saves and costs, where it changed, and the next steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from app import nav, plain, state, widgets
from app.budget import rerun
from app.compare import finals, sidebyside
from app.gallery import gallery
from app.runs import headline, outcome, pictureview, precisionview, runlog
from compression.errors import CompressionError
from compression.plots import confusion, layers, ledger
from compression.plots.axes import chance
from compression.plots.candidates import Candidate, CandidatesInfo, verdict


def summary(info: CandidatesInfo, picked: Candidate) -> None:
    """The picked run in a sentence, its figures, and where to go from here."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            widgets.method_badge(picked.method)
            st.markdown(f"**{plain.text(picked.label)}**", width="content")
            widgets.gallery_badge(gallery.is_gallery(picked.run))
        done = result(picked)
        read = done and precisionview.picked(picked.run, done)
        if read is done:
            st.markdown(verdict(info, picked))
        figures(replace(picked, point=read["final"]) if read else picked, read)
        actions(picked)


def result(picked: Candidate) -> Mapping[str, Any] | None:
    """The result of a finished run."""
    return None if picked.live else runlog.outcome(picked.run)


def details(picked: Candidate, second: Candidate | None) -> None:
    """The picked run beside a second one, its layers, its file, and what it confuses."""
    pictured = [picked] if second is None else [picked, second]
    pictureview.compare([(f"{each.title}: {each.metric.show(each.point['score'])}", each.run) for each in pictured])
    if second is not None:
        beside(picked, second)
    done = result(picked)
    done = done and precisionview.current(done)
    if done is None:
        st.caption("Layers, ledger and confusions are shown when the run is done.")
        return
    where(picked, done)
    confusions(done)


def figures(picked: Candidate, done: Mapping[str, Any] | None) -> None:
    """Size, score, MACs and BOPs, each with what it is compared to."""
    dense = None if picked.live else picked.baseline  # measured on other data during a run
    headline.figures(picked.point, dense, picked.metric, picked.live)
    images = sum(map(sum, done["confusion"]["final"])) if done and done.get("confusion") else 0
    if images:
        margin = 100 * chance(picked.point["score"], images)
        st.caption(f"Counted on {images:,} test images: differences below {margin:.1f} points may be chance.")


def actions(picked: Candidate) -> None:
    """Where to go from here."""
    from compression import methods

    with st.container(horizontal=True, vertical_alignment="center"):
        model, data = state.get("model"), state.get("data")
        nav.link("runs", "Open in Runs", run=picked.run, model=model, data=data)
        if not picked.live:
            nav.link("explain", "Explain", run=picked.run, model=model, data=data)
            nav.link("export", "Export", run=picked.run, model=model, data=data)
        nav.link("budget", "Set up another run", **rerun.query(rerun.of_run(picked.run)))
        with st.popover("Same budget, other method", icon=":material/swap_horiz:"):
            st.markdown(
                "Opens the Budget page with the same sparsity, bits and training, ready to start. Sparsity counts "
                "units for a method that removes channels, and single weights for one that zeroes them. A method that "
                "takes one number of bits gets the middle of a range."
            )
            for name, method in methods.all_methods().items():
                if name != picked.method and st.button(method.info.label, key=f"again {name}", icon=":material/tune:"):
                    rerun.go(rerun.of_run(picked.run), name)


def beside(picked: Candidate, second: Candidate) -> None:
    """Both runs in a table with the differences."""
    st.subheader("Side by side", anchor=False)
    budgets = (runlog.folder(picked.run).budget(), runlog.folder(second.run).budget())
    rows = sidebyside.rows(picked, second, budgets, ("this run", "the other"))
    st.table(widgets.text_columns(rows), border="horizontal", hide_index=True)
    widgets.download(rows, f"{picked.run}-{second.run}")
    st.caption(f"Difference: {plain.text(second.title)} minus {plain.text(picked.title)}.")


def where(picked: Candidate, done: Mapping[str, Any]) -> None:
    """Layer by layer, and part by part of the file."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Which layers shrank?", anchor=False)
        try:
            info = layers.LayersInfo(finals.layers(picked.run, done), picked.method, finals.has_model(picked.run))
        except CompressionError as error:
            widgets.problem(error)
        else:
            layer_bars(info)
    with right:
        st.subheader("Where are the bytes of its file?", anchor=False)
        parts = ledger.ledger_info(done["ledger"], picked.method)
        st.caption(parts.sentence)
        widgets.chart(ledger.ledger_figure(parts), "ledger_bars", outcome.ledger_rows(done["ledger"]), parts.sentence)


def layer_bars(info: layers.LayersInfo) -> None:
    """One measure of every layer, dense and compressed."""
    chosen = widgets.switch(
        "Show",
        info.measures,
        info.measures[0],
        "layer_measure" if info.packed else "layer_measure_recorded",
        format_func=lambda name: layers.MEASURES[name].label,
        label_visibility="collapsed",
    )
    st.caption(info.sentence)
    fig = layers.layers_figure(info, layers.MEASURES[chosen])
    widgets.chart(fig, "layer_bars", info.rows, f"{info.sentence} The table holds every layer.")
    if len(info.drawn) < len(info.changes):
        rest = len(info.changes) - len(info.drawn)
        st.caption(f"The {len(info.drawn)} largest layers; {rest} smaller ones are in the table.")
    if not info.packed:
        st.caption("This run of the gallery kept figures only: shapes and bits are known, sizes in its file are not.")
    if any(change.before is None for change in info.changes):
        st.caption("What the layers were before is not shown: this app was not started with the file of this model.")


def confusions(done: Mapping[str, Any]) -> None:
    """Which classes got worse."""
    tables = done.get("confusion") or {}
    if not tables.get("baseline") or not tables.get("final"):
        return
    st.subheader("Which classes got worse?", anchor=False)
    info = confusion.confusion_info(tables["baseline"], tables["final"], done.get("classes") or ())
    left, right = st.columns([3, 2], gap="large")
    with right:
        st.markdown("\n\n".join(info.sentences))
        st.caption(
            f"Change in the number of test images ({info.images:,} in all) from the dense model to this run. Orange: "
            "worse, that is fewer on the diagonal, more beside it. Blue: better."
            + (f" The {len(info.shown)} most changed classes of {len(info.classes)}." if info.folded else "")
        )
    with left:
        widgets.chart(confusion.confusion_figure(info), "confusion", info.rows, " ".join(info.sentences))
