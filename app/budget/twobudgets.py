"""Two budgets side by side on the Budget page: the kept one is A, the present one B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import names, plain, theme, widgets, words
from app.budget import draft
from app.budget.planned import Plan
from compression.budget import Budget
from compression.plots import twoplans as figures

KEPT = "kept_budget"


@dataclass(frozen=True, eq=False)
class Kept:
    """A budget with what it gives."""

    budget: Budget
    planned: Plan


def section(budget: Budget, planned: Plan | None) -> None:
    """Keep the present budget as A, and see it beside what the sliders say now."""
    st.caption("Keep a budget as A, change it, and see what B (what the sliders say now) gives instead.")
    kept: Kept | None = st.session_state.get(KEPT)
    fits = kept is not None and kept.budget.model == budget.model and kept.budget.input == budget.input
    with st.container(horizontal=True):
        label = "Keep this budget as A instead" if fits else "Keep this budget as A"
        st.button(
            label, icon=":material/bookmark:", key="keep_a", disabled=planned is None, on_click=_keep,
            args=(budget, planned),
        )  # fmt: skip
        if kept is not None and fits:
            st.button("Go back to A", icon=":material/undo:", key="back_to_a", on_click=_back, args=(kept.budget,))
    if kept is None or planned is None:
        return
    if not fits:
        st.caption(
            f"A was kept for {plain.text(names.model_label(kept.budget.model))}, another model or size, and is "
            "not compared."
        )
        return
    made = rows(kept, Kept(budget, planned))
    st.table(widgets.text_columns(made), border="horizontal", hide_index=True)
    widgets.download(made, "two-budgets")
    info = figures.two_plans_info(kept.planned.layers, planned.layers)
    alt = "Bytes of every layer's weights in A and in B; the table below holds the same."
    widgets.chart(figures.two_plans_figure(info), "two_plans", info.rows, alt)


def rows(a: Kept, b: Kept) -> list[dict[str, str]]:
    """What is asked and what it gives, with B minus A."""
    pairs = [
        ("method", theme.style(a.budget.method).label, theme.style(b.budget.method).label, ""),
        ("asked", names.request(a.budget.to_dict()), names.request(b.budget.to_dict()), ""),
        ("bounded layers and groups", *(_bounded(each.budget) for each in (a, b)), ""),
    ]
    ends = [("size, at least", 0), ("size, at most", 1)]
    if all(each.planned.bytes[0] == each.planned.bytes[1] for each in (a, b)):
        ends = [("size", 1)]
    pairs += [_row(name, a.planned.bytes[end], b.planned.bytes[end], words.size) for name, end in ends]
    pairs.append(_row("MACs", a.planned.high.macs, b.planned.high.macs, words.count))
    pairs.append(_row("BOPs of dense, at most", a.planned.high.rel_bops, b.planned.high.rel_bops, _percent))
    pairs.append(_row("error of the weights", a.planned.error, b.planned.error, _percent))
    pairs.append(_row("channels gone", a.planned.units, b.planned.units, lambda units: f"{units:,.0f}"))
    return [{"": name, "A": one, "B": two, "B − A": change} for name, one, two, change in pairs]


def _row(name: str, a: float | None, b: float | None, show: Callable[[float], str]) -> tuple[str, str, str, str]:
    one, two = ("–" if value is None else show(value) for value in (a, b))
    return name, one, two, "" if a is None or b is None else words.signed(b - a, show)


def _bounded(budget: Budget) -> str:
    return str(len(budget.layers) + len(budget.groups)) if budget.layers or budget.groups else "none"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _keep(budget: Budget, planned: Any) -> None:
    st.session_state[KEPT] = Kept(budget, planned)


def _back(budget: Budget) -> None:
    draft.take(budget)
