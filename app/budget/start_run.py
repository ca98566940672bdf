"""From a budget to a run: the buttons that start one or a sweep, and the reasons why they cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app import names, nav, plain, state, widgets, words
from app.budget import raceview, smallest, sparsity, timeview
from app.model import catalog, networks, trainview
from app.runs import runlog
from compression import methods
from compression.asks import BITS_OPTION, Ask, Sparsity
from compression.budget import Budget
from compression.errors import CompressionError

SPARSITIES, BITS = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
USUAL_SPARSITIES, USUAL_BITS = [0.5, 0.7, 0.9], [3.0, 4.0]


def buttons(
    subject: catalog.ChosenModel, network: networks.Network, budget: Budget, path: Path | None, possible: bool
) -> None:
    """Start a run or a sweep; what cannot be started says why."""
    reason = obstacle(subject, path) or ("" if possible else "This budget cannot be met: see the message above.")
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button(
            f"Start {plain.text(methods.get(budget.method).info.label)} run",
            type="primary",
            icon=":material/play_arrow:",
            disabled=bool(reason),
            help=reason or None,
            key="start",
        )
        with st.popover("Sweep", icon=":material/stacked_line_chart:", disabled=bool(reason)):
            swept = sweep_form(subject, network, budget, path)
        raced = raceview.popover(subject, network, budget, path, bool(reason))
    if reason:
        st.caption(reason)
        if subject.has_data and path is None:
            trainview.section(subject)
    elif path is not None:
        timeview.line(subject, budget, path)
    if path is not None and catalog.is_chance(path):
        st.warning(words.CHANCE, icon=":material/casino:")
    if pressed:
        submit(lambda: runlog.start(budget))
    elif raced is not None:
        submit(lambda: runlog.race(raced))
    elif swept is not None:
        submit(lambda: runlog.sweep(budget, swept.sparsities, swept.bits, swept.least))


@dataclass(frozen=True)
class Sweep:
    """Values to combine; with ``least``, only until the smallest model of that score is found."""

    sparsities: list[float]
    bits: list[float]
    least: float | None


def sweep_form(
    subject: catalog.ChosenModel, network: networks.Network, budget: Budget, path: Path | None
) -> Sweep | None:
    """Several budgets at once, of sparsities that can be reached; returns the chosen values when started."""
    st.markdown("One run for each combination: together they draw the front.")
    method = methods.get(budget.method)
    share, width = method.ask("--sparsity"), method.ask(BITS_OPTION)
    control = width.control() if width is not None else None
    sparsities: list[float] = []
    if isinstance(share, Sparsity) and share.value(budget.asks) is not None:
        low, high = sparsity.ends(network, share)
        sparsities = st.pills(
            "Sparsities",
            [value for value in SPARSITIES if low <= value <= high],
            selection_mode="multi",
            default=[value for value in USUAL_SPARSITIES if low <= value <= high],
            key="sweep_sparsity",
            format_func=lambda value: words.share(value, 0),
        )
    bits: list[float] = []
    if control is not None and control.kind == "slider":
        bits = st.pills(
            "Average bits" if control.step < 1 else "Bits",
            [width for width in BITS if control.low <= width <= control.high],
            selection_mode="multi",
            default=USUAL_BITS,
            key="sweep_bits",
            format_func=lambda width: f"{width:g}",
        )
    elif width is not None:
        st.caption(f"Every run keeps {width.words(width.value(budget.asks))}.")
    runs = max(1, len(sparsities)) * max(1, len(bits))
    search = smallest.search(subject, network, path)
    label = f"Start {words.plural(runs, 'run')}" if not search.on else f"Search among {words.plural(runs, 'budget')}"
    pressed = st.button(label, key="start_sweep", icon=":material/play_arrow:", disabled=not search.ready)
    return Sweep(_shares(sparsities, share, budget), sorted(bits), search.least) if pressed else None


def _shares(chosen: list[float], ask: Ask | None, budget: Budget) -> list[float]:
    """The chosen sparsities; without a choice the budget's own, of a method that reads none any; none where the budget
    says in another way how much is removed.
    """
    own = 0.0 if ask is None else ask.value(budget.asks)
    return sorted(chosen) or ([] if own is None else [own])


def submit(begin: Callable[[], str]) -> None:
    """Start, and open the page where it can be watched."""
    try:
        with st.spinner("Starting…"):
            run = begin()
    except CompressionError as error:
        widgets.problem(error)
        return
    nav.go("runs", run=run, model=state.get("model"), data=state.get("data"))


def obstacle(subject: catalog.ChosenModel, path: Path | None) -> str:
    """Why no run can be started, or nothing."""
    if not subject.has_data:
        return "A run needs data: choose a data set on the Model page."
    if path is None:
        where = plain.text(names.subject(subject.model, subject.data))
        return f"A run starts from trained weights, and there are none for {where}."
    return ""
