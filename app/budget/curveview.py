"""The accuracy of OPQ's allocation before any training, on the Budget page: measured once, in the background."""

from __future__ import annotations

import json
from pathlib import Path

import streamlit as st

from app import widgets, words
from app.budget.planned import Plan
from app.model import catalog
from app.runs import runlog
from app.terms import tip
from compression.budget import Budget
from compression.errors import CompressionError
from compression.jobs import curve, studies
from compression.plots import curve as figures
from compression.runs.folder import RunFolder
from compression.runs.resultfile import written

EXPLAINED = (
    "OPQ's allocation at 35 budgets, measured on validation images before any training. Where the curve breaks down, "
    "the fine-tuning of a run has most to do."
)
VIEWS = {"recomputed": "Batch norms refitted", "accuracy": "As it stands"}
REFITTED = (
    "A batch norm remembers mean and variance of what the dense layers gave it. Smaller layers give something else: "
    "measuring both anew on training images, without learning anything, is a run's first step and often most of the "
    "recovery."
)


def section(of: catalog.Subject, budget: Budget, planned: Plan, path: Path | None) -> None:
    """Both charts when they have been measured, else the way there."""
    st.subheader("Accuracy before any training", anchor=False)
    if not of.has_data or path is None:
        st.caption("This is measured on data with trained weights, and there are none for this choice.")
        return
    try:
        made = studies.find(_key(of, str(path), path.stat().st_mtime, _counted(budget)), runlog.store().root)
    except CompressionError as error:
        widgets.problem(error)
        return
    state = made.state if made is not None else "none"
    if made is not None and state in ("queued", "running"):
        st.fragment(run_every="1s")(progress)(made.id)
    elif made is not None and state == "done":
        charts(made, budget, planned)
    else:
        offer(budget, state)


@st.cache_data(max_entries=16, show_spinner=False)
def _key(of: catalog.Subject, path: str, changed: float, counted: str) -> str:
    return curve.key(of.place(Budget(method="opq", **json.loads(counted))))


def _counted(budget: Budget) -> str:
    """What of a budget besides the sliders changes the measurement, as text that can be a key."""
    plain = budget.to_dict()
    return json.dumps({name: plain[name] for name in ("layers", "options")}, sort_keys=True)


def offer(budget: Budget, state: str) -> None:
    """Nothing measured yet, or not to the end: say so, and offer the click."""
    if state != "none":
        st.caption(f"The last measurement ended early ({widgets.state_words(state)}).")
    st.caption(EXPLAINED)
    label = "Measure accuracy without training"
    if not st.button(label, icon=":material/monitoring:", key="measure_curve"):
        return
    try:
        with st.spinner("Starting…"):
            curve.measure(budget, runlog.store().root)
    except CompressionError as error:
        widgets.problem(error)
        return
    st.rerun()


def progress(job: str) -> None:
    """How far the background job is; the page is drawn anew when it has ended."""
    folder = RunFolder.open(studies.studies(runlog.store().root).root, job)
    events = folder.events()
    if folder.state_of(events) not in ("queued", "running"):
        st.rerun()
    total = next((int(event["total_steps"]) for event in events if event["kind"] == "plan"), 0)
    done = max((int(event["step"]) for event in events if event["kind"] == "step"), default=0)
    text = f"Measuring: {done} of {total} budgets" if total else "Preparing: data and weights"
    st.progress(done / total if total else 0.0, text=text)


def charts(made: RunFolder, budget: Budget, planned: Plan) -> None:
    """Accuracy by sparsity, and by the error that the closed form predicts."""
    told = written(made.result_path)
    shown = _view() if any(row["recomputed"] is not None for row in told["rows"]) else "accuracy"
    info = figures.curve_info(told["rows"], told["dense"], budget.bits, budget.sparsity, planned.error, shown)
    for by, alt in (
        ("sparsity", "Accuracy without training over the sparsity, a line for each average bits."),
        ("error", "Accuracy without training over the predicted error of the weights."),
    ):
        widgets.chart(figures.curve_figure(info, by), f"curve_{by}", info.rows, alt)
    st.caption(
        f"{EXPLAINED} {told['images']:,} images; bold: {info.nearest:g} bits, the measured ones next to the asked "
        f"{budget.bits:g}; dotted: this budget; dashed: the dense model, {words.share(told['dense'])}. The "
        "bounds of layers and the method's options hold here, too."
    )


def _view() -> str:
    chosen = st.segmented_control(
        "Accuracy shown", tuple(VIEWS), default="recomputed", required=True, format_func=VIEWS.__getitem__,
        key="curve_view", help=tip(REFITTED),
    )  # fmt: skip
    return chosen or "recomputed"
