"""A race from the Budget page: methods, seeds and budgets picked in one place, what each comes to, and the start."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import widgets, words
from app.budget import live_forecast, sparsity
from app.model import catalog, networks
from app.terms import tip
from compression import match, methods
from compression.asks import Sparsity
from compression.budget import Budget
from compression.errors import CompressionError
from compression.runs import race

SEEDS = (1, 2, 3, 4, 5)
USUAL_SEEDS = 3
SHARES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
MATCHED = {"bytes": "Size", "macs": "MACs", "bops": "BOPs", race.SPARSITY: "Sparsity"}
EXPLAINED = (
    "What all methods have in common. By size, MACs or BOPs, the main setting of each method is moved until its "
    "forecast is at that of this page's budget or just below."
)


def popover(
    subject: catalog.ChosenModel, network: networks.Network, budget: Budget, path: Path | None, disabled: bool
) -> list[race.Entry] | None:
    """The button that opens the form; returns what to start once that is pressed."""
    with st.popover(
        "Race", icon=":material/sports_score:", disabled=disabled, key="race", on_change="rerun", width="content"
    ) as opened:
        return _form(subject, network, budget, path) if opened.open else None


def _form(
    subject: catalog.ChosenModel, network: networks.Network, budget: Budget, path: Path | None
) -> list[race.Entry] | None:
    st.markdown("Several methods, each from several seeds, on budgets of equal size.")
    names = st.pills(
        "Methods", methods.names(), selection_mode="multi", default=[budget.method], key="race_methods",
        format_func=lambda name: methods.get(name).info.label,
    )  # fmt: skip
    columns = st.columns(2)
    with columns[0]:
        seeds = st.segmented_control("Seeds for each", SEEDS, default=USUAL_SEEDS, required=True, key="race_seeds")
    with columns[1]:
        matched = st.segmented_control(
            "Equal", list(MATCHED), default="bytes", required=True, key="race_match", help=tip(EXPLAINED),
            format_func=MATCHED.__getitem__,
        )  # fmt: skip
    budgets = _budgets(budget, network)
    confirmed = True
    entries: list[race.Entry] = []
    try:
        first = range(budget.seed, budget.seed + int(seeds))
        entries = race.plan(live_forecast.LiveSubject(subject, path), budgets, names, [*first], str(matched))
        race.refuse_unmatched(entries)
    except CompressionError as error:
        widgets.problem(error)
    if entries:
        with st.expander("What each comes to", type="compact", key="race_plan", expanded=len(entries) <= len(names)):
            st.table(widgets.text_columns([_row(entry) for entry in entries]), border="horizontal", hide_index=True)
    count = len(race.runs(entries))
    if count > race.MOST_RUNS:
        label = f"Yes, start {count:,} runs"
        confirmed = st.checkbox(label, key="race_yes", help=tip(f"More than {race.MOST_RUNS} runs take very long."))
    ready = bool(entries) and all(entry.met for entry in entries) and confirmed
    label = f"Start {words.plural(count, 'run')}"
    pressed = st.button(label, key="start_race", type="primary", icon=":material/play_arrow:", disabled=not ready)
    return entries if pressed else None


def _budgets(budget: Budget, network: networks.Network) -> list[Budget]:
    """The page's budget, or it at every sparsity picked."""
    share = methods.get(budget.method).ask("--sparsity")
    if not isinstance(share, Sparsity) or (own := share.value(budget.asks)) is None:
        return [budget]
    low, high = sparsity.ends(network, share)
    offered = sorted({own, *(value for value in SHARES if low <= value <= high)})
    label = methods.get(budget.method).info.label
    picked = st.pills(
        f"Sparsities of {label}", offered, selection_mode="multi", default=[own], key=f"race_sparsity {own}",
        format_func=lambda value: words.share(value, 0),
    )  # fmt: skip
    return [budget.replace(asks={**budget.asks, share.field: value}) for value in sorted(picked) or [own]]


def _row(entry: race.Entry) -> dict[str, str]:
    """What an entry of the plan asks for and comes to."""
    method = methods.get(entry.budget.method)
    row = {"Method": method.info.label, "Settings": method.request(entry.budget), "Runs": f"{len(entry.seeds)}"}
    if entry.forecast is None:
        return row
    size = words.size(match.quantity(entry.forecast, "bytes"))
    return {**row, "Forecast": size if entry.met else f"{size}: not small enough"}
