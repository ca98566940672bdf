"""The Explain page, lower half: how alike the maps of both models are, between floor and ceiling; the job behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import widgets
from app.explain import explained, explainwords
from app.runs import runlog
from app.terms import tip
from compression.errors import CompressionError
from compression.explain import METHODS
from compression.jobs import explain_run
from compression.plots import similarity

if TYPE_CHECKING:
    from compression.explain.comparison import Comparison

IMAGES = {"32": 32, "64": 64, "128": 128}


def draw(run: str, run_key: explained.Key) -> None:
    """The scores with floor and ceiling: how they are measured, the job, and the chart."""
    st.subheader("How alike are they?", anchor=False)
    now = explain_run.status(runlog.workplace(run))
    comparison = explained.comparison(run_key)
    if now.state == explain_run.RUNNING:
        st.fragment(run_every="1s")(watch)(run)
    elif now.state == explain_run.FAILED:
        widgets.problem(CompressionError(now.error))
    elif now.state == explain_run.CANCELLED:
        st.caption("The last measurement was cancelled.")
    if comparison is None:
        if now.state != explain_run.RUNNING:
            _ask(run)
        return
    _scores(run, comparison)
    if now.state != explain_run.RUNNING:
        with st.expander("Measure again on more images", type="compact"):
            _ask(run, again=True)


def _ask(run: str, again: bool = False) -> None:
    """What will be measured, and the button."""
    with st.container(border=not again):
        if not again:
            st.markdown(
                "A glance at a few images deceives. Measure the similarity of the maps over many, with every "
                "method, and with its scale: what the original reaches **against itself** (ceiling), and what a "
                "network with **random weights** or the map of **another image** reaches (floors)."
            )
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            count = st.segmented_control(
                "Test images", list(IMAGES), default="32", required=True, key="explain_images", on_change="ignore",
                help=tip("Drawn at random with a fixed seed. More images, narrower intervals, more time."),
            )  # fmt: skip
            start(run, "start_scores", IMAGES[count or "32"], "Measure it")
        st.caption("Runs in a separate process: you may leave this page. Small networks take some seconds.")


def start(run: str, key: str, images: int, label: str) -> None:
    """The button that starts the explain_run."""
    if st.button(label, type="primary", icon=":material/play_arrow:", key=key):
        with st.spinner("Starting…"):
            explain_run.start(runlog.workplace(run), images)
        st.rerun()


def watch(run: str) -> None:
    """Progress of the job; draws the page anew when it has ended."""
    now = explain_run.status(runlog.workplace(run))
    if now.state != explain_run.RUNNING:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.progress(now.share, text=f"{now.text[:1].upper()}{now.text[1:]}…")
        if st.button("Cancel", icon=":material/close:", key="cancel_explain"):
            explain_run.cancel(runlog.workplace(run))
            st.rerun()
    st.caption("A separate process: you may leave this page.")


def _scores(run: str, comparison: Comparison) -> None:
    title = explainwords.MEASURE_LABELS.__getitem__
    chosen = widgets.switch("Measure", explainwords.MEASURES, "spearman", "alike", format_func=title)
    labels = {name: entry.label for name, entry in METHODS.items()}
    kind = str(runlog.folder(run).budget().method)
    info = similarity.alike_info(comparison.scores, labels, (chosen, title(chosen)), kind)
    st.markdown(info.sentence)
    widgets.chart(similarity.alike_figure(info), f"alike-{chosen}", info.table, info.sentence.replace("**", ""))
    _scale(chosen)
    for line in notes(comparison):
        st.caption(line)
    rows = score_rows(comparison)
    widgets.table_of(rows, "alike-per-image", "Every image's score")


def _scale(measure: str) -> None:
    measured = explainwords.MEASURES[measure]
    with st.popover("What is measured", icon=":material/function:", type="tertiary"):
        st.markdown(measured.short)
        st.latex(measured.formula)
        st.markdown(measured.more)
        st.markdown(explainwords.SCALE)


def notes(comparison: Comparison) -> list[str]:
    """The other results of the job: changed classes, what integrated gradients miss, methods that do not apply."""
    lines = [
        f"{len(comparison.images)} test images drawn with seed {comparison.seed}; on {comparison.changed} of them the "
        "answer changed. Lines through the coloured markers: 95 % interval of the mean."
    ]
    if comparison.missing is not None:
        dense, small = comparison.missing
        line = (
            "Integrated gradients should add up to the rise of the logit. On average they miss it by "
            f"{dense:.2g} for the original and {small:.2g} for the compressed model"
        )
        more = (
            ": there the gradients are straight-through, and the promise no longer holds."
            if comparison.straight_through
            else "."
        )
        lines.append(line + more)
    lines += [f"{METHODS[name].label} is omitted: {reason}." for name, reason in comparison.refused.items()]
    return lines


def score_rows(comparison: Comparison) -> list[Mapping[str, Any]]:
    """One row for each method, image and measure."""
    return [
        {"method": METHODS[name].label, "measure": explainwords.MEASURE_LABELS[measure], "test image": image}
        | {key: round(values[key][place], 4) for key in similarity.NAMES}
        for name, by_measure in comparison.scores.items()
        for measure, values in by_measure.items()
        for place, image in enumerate(comparison.images)
    ]
