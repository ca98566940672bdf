"""Budget: how much sparsity and how few bits; what that gives answers at once; start a run or a sweep."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app import bounds
from app import catalog
from app import curveview
from app import draft
from app import launchpad
from app import offer
from app import plan
from app import state
from app import theme
from app import tuning
from app import widgets
from app import words
from app.figures import plan as figures
from app.planned import Plan
from compression.budget import HIGHEST_BITS
from compression.budget import LOWEST_BITS
from compression.budget import Budget
from compression.errors import CompressionError

HIGHEST_AVERAGE = float(HIGHEST_BITS)


def sliders() -> None:
    """The questions of the budget."""
    st.pills(
        "Method",
        offer.names(),
        key="method",
        default="geta",
        required=True,
        bind="query-params",
        wrap=True,
        format_func=lambda name: theme.style(name).label,
    )
    method = offer.get(draft.value("method") or "geta")
    st.caption(offer.sentence(method.name))
    if method.uses.sparsity:
        what, term = ("channels", "units") if method.structured else ("weights", "weights")
        label = f"Sparsity: share of {what} that go"
        _slider(label, "sparsity", 0.0, draft.HIGHEST_SPARSITY, 0.01, "percent", f"sparsity_{term}")
    _weight_bits(method.uses.bits)
    if method.uses.activations:
        help_text = words.HELP["activation_bits"]
        st.toggle("Quantize activations too", key="activations", bind="query-params", help=help_text)
        if draft.value("activations"):
            _activation_bits(method.uses.bits)
    tuning.fields(method.name)
    if method.uses.training:
        training()
    else:
        st.caption("Nothing is trained: no epochs to choose.")


def _weight_bits(kind: str) -> None:
    if kind == "range":
        _slider("Bits of the weights, from … to", "bits", LOWEST_BITS, HIGHEST_BITS, 1, None, "weight_bits")
    elif kind == "average":
        label = "Average bits per surviving weight"
        _slider(label, "average_bits", float(LOWEST_BITS), HIGHEST_AVERAGE, 0.25, "%.2f", "bits")
    else:
        _slider("Bits of every layer's weights", "equal_bits", LOWEST_BITS, HIGHEST_BITS, 1, None, "equal_bits")


def _activation_bits(kind: str) -> None:
    key = "equal_activation_bits" if kind == "equal" else "activation_bits"
    label = "Bits of all activations" if kind == "equal" else "Bits of the activations, from … to"
    _slider(label, key, LOWEST_BITS, HIGHEST_BITS, 1, None, key)


def _slider(label: str, key: str, low: Any, high: Any, step: Any, form: str | None, term: str) -> None:
    explained = words.HELP[term]
    st.slider(label, low, high, draft.DEFAULTS[key], step, form, key=key, bind="query-params", help=explained)


def training() -> None:
    """How long to train, and from which seed."""
    extras = draft.extras()
    with st.expander("Training", icon=":material/model_training:", expanded=bool(extras)):
        explained = "Passes over the training data. More gives accuracy, and takes longer."
        epochs, seed = draft.DEFAULTS["epochs"], draft.DEFAULTS["seed"]
        st.number_input("Epochs", 1, 1000, epochs, key="epochs", bind="query-params", help=explained)
        explained = "The same seed gives the same run."
        st.number_input("Seed", 0, 2**31 - 1, seed, key="seed", bind="query-params", help=explained)
        if extras:
            st.caption(f"Set besides the fields: {json.dumps(extras)}")
            st.button("Back to defaults", on_click=draft.clear_extras)


def answer(of: catalog.Subject, found: catalog.Traced, budget: Budget, path: Path | None) -> Plan | None:
    """What the budget gives, in figures; nothing but one line when it cannot be met."""
    try:
        planned = plan.make(of, path, found.graph, budget)
    except CompressionError as error:
        widgets.problem(error)
        return None
    low, high = planned.bytes
    whole = planned.dense.nominal_bytes
    smaller = f"{_between(whole / high, whole / low, words.ratio)} smaller"
    work = f"{words.share(planned.low.macs / planned.dense.macs, 0)} of dense"
    bops = _between(100 * planned.low.rel_bops, 100 * planned.high.rel_bops, lambda share: f"{share:.3g} %")
    widgets.metrics(
        ("Size", _between(low, high, words.size), smaller, words.HELP["planned_bytes"]),
        ("MACs", words.count(planned.low.macs), work, words.HELP["macs"]),
        ("BOPs", bops, "of the dense fp32 model", words.HELP["bops"]),
        _last(planned, found),
    )
    for note in planned.notes:
        st.caption(note)
    return planned


def _last(planned: Plan, found: catalog.Traced) -> tuple[str, str, str, str]:
    if planned.error is not None:
        explained = "Σ(w − ŵ)² relative to Σw², measured on the weights"
        return ("Error of the weights", f"{100 * planned.error:.3g} %", "before any training", explained)
    return ("Channels gone", f"{planned.units}", f"of {found.graph.prunable_units:,}", words.HELP["unit"])


def _between(low: float, high: float, show: Callable[[float], str]) -> str:
    """``3.2–5.7 kB``: the unit once when both ends have the same."""
    first, last = show(low), show(high)
    if first == last:
        return first
    number, space, unit = first.partition(" ")
    if space and last.endswith(f" {unit}"):
        return f"{number}–{last}"
    return f"{first.rstrip('×')}–{last}" if first.endswith("×") else f"{first}–{last}"


def basis(budget: Budget, path: Path | None) -> str:
    """What the answer rests on."""
    method = offer.get(budget.method)
    if method.structured:
        return (
            "Counted for channels removed evenly; the run picks them by what they contribute. The packed file codes "
            "them closer, and adds step sizes and names."
        )
    if path is None:
        return "Answered on untrained weights, since there are no trained ones: only a rough guide."
    if not method.uses.sparsity:
        return (
            "Rounded on the trained weights; the size is all weights at their bits. The packed file codes them closer."
        )
    told = "OPQ's allocation on the trained weights" if budget.method == "opq" else "Counted on the trained weights"
    return f"{told}; the size is values and positions of zeros, coded ideally."


def files(budget: Budget) -> None:
    """Save and load the budget as JSON."""
    with st.expander("Save or load this budget", icon=":material/save:"):
        st.download_button(
            "Save JSON",
            json.dumps(budget.replace(weights=None).to_dict(), indent=2),
            file_name="budget.json",
            mime="application/json",
            icon=":material/download:",
            on_click="ignore",
        )
        explained = "A JSON file saved here or written for the command line."
        st.file_uploader("Load a budget", type=["json"], key="upload", on_change=_uploaded, help=explained)
        if refused := st.session_state.pop("upload_problem", None):
            widgets.problem(refused)


def _uploaded() -> None:
    file = st.session_state.get("upload")
    if file is None:
        return
    try:
        draft.load(file.getvalue())
    except CompressionError as error:
        st.session_state["upload_problem"] = error


@st.fragment
def compose(of: catalog.Subject, found: catalog.Traced) -> None:
    """Sliders and answers together, so that moving one reruns only this."""
    if (state.get("model"), state.get("data")) != (of.model, of.data):
        st.rerun()  # a loaded budget is about another model
    path = catalog.weights_file(of) if of.has_data else None
    left, right = st.columns([2, 3], gap="large")
    with left:
        sliders()
    with right:
        try:
            budget = draft.budget(of)
        except CompressionError as error:
            widgets.problem(error)
            return
        planned = answer(of, found, budget, path)
        launchpad.buttons(of, budget, path, planned is not None)
        if planned is not None:
            st.caption(basis(budget, path))
            info = figures.plan_info(planned.layers, budget.method)
            alt = "Bytes per layer, dense and planned; the table below holds the same."
            widgets.chart(figures.plan_figure(info), "plan", planned.table, alt)
            if budget.method == "opq":
                curveview.section(of, budget, planned, path)
    bounds.editor(found, budget)
    files(budget)


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "budget",
        "Say how much may go and how few bits may stay. Size and work answer at once; a run shows what it costs in "
        "accuracy.",
    )
    of = catalog.subject(state.get("model"), state.get("data"), state.get("weights"))
    widgets.context(of.model, of.data)
    compose(of, catalog.traced(of))


page()
