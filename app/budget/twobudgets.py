"""Two budgets side by side on the Budget page: the stored one is A, the present one B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from app import names, plain, widgets, words
from app.budget import draft, forecast_panel
from compression import methods
from compression.budget import Budget
from compression.forecast import Forecast
from compression.plots import twoplans as figures

_STORED = "budget_a"


@dataclass(frozen=True, eq=False)
class Side:
    """A budget with what its method forecasts."""

    budget: Budget
    forecast: Forecast


def section(budget: Budget, forecast: Forecast | None) -> None:
    """Store the present budget as A, and see it beside what the form says now."""
    st.caption("Keep a budget as A, change it, and see what B (what the form says now) gives instead.")
    a: Side | None = st.session_state.get(_STORED)
    fits = a is not None and a.budget.model == budget.model and a.budget.input == budget.input
    with st.container(horizontal=True):
        label = "Keep this budget as A instead" if fits else "Keep this budget as A"
        st.button(
            label, icon=":material/bookmark:", key="keep_a", disabled=forecast is None, on_click=_store,
            args=(budget, forecast),
        )  # fmt: skip
        if a is not None and fits:
            st.button("Go back to A", icon=":material/undo:", key="back_to_a", on_click=draft.put, args=(a.budget,))
    if a is None or forecast is None:
        return
    if not fits:
        st.caption(
            f"A was kept for {plain.text(names.model_label(a.budget.model))}, another model or size, and is "
            "not compared."
        )
        return
    table = rows(a, Side(budget, forecast))
    st.table(widgets.text_columns(table), border="horizontal", hide_index=True)
    widgets.download(table, "two-budgets")
    info = figures.two_plans_info(forecast_panel.layer_plans(a.forecast), forecast_panel.layer_plans(forecast))
    if info.layers:
        alt = "Bytes of every layer's weights in A and in B; the table below holds the same."
        widgets.chart(figures.two_plans_figure(info), "two_plans", info.rows, alt)


def rows(a: Side, b: Side) -> list[dict[str, str]]:
    """The settings of both budgets and what they come to, with B minus A."""
    pairs = [
        ("method", *(methods.get(each.budget.method).info.label for each in (a, b)), ""),
        ("settings", *(methods.get(each.budget.method).describe(each.budget) for each in (a, b)), ""),
    ]
    decided = all(each.forecast.bytes is None or len(set(each.forecast.bytes)) == 1 for each in (a, b))
    figures: list[tuple[str, Callable[[Forecast], float | None], Callable[[float], str]]] = [
        ("size, at least", lambda forecast: forecast.bytes and forecast.bytes[0], words.size),
        ("size" if decided else "size, at most", lambda forecast: forecast.bytes and forecast.bytes[1], words.size),
        ("MACs", lambda forecast: forecast.high.macs if forecast.high else None, words.count),
        ("BOPs of dense, at most", lambda forecast: forecast.high.rel_bops if forecast.high else None, _percent),
        ("error of the weights", lambda forecast: forecast.error, _percent),
        ("channels removed", lambda forecast: forecast.units if forecast.removed else None, lambda n: f"{n:,.0f}"),
    ]
    pairs += [_row(name, get(a.forecast), get(b.forecast), show) for name, get, show in figures[decided:]]
    return [{"": name, "A": one, "B": two, "B − A": change} for name, one, two, change in pairs]


def _row(name: str, a: float | None, b: float | None, show: Callable[[float], str]) -> tuple[str, str, str, str]:
    one, two = ("–" if value is None else show(value) for value in (a, b))
    return name, one, two, "" if a is None or b is None else words.signed(b - a, show)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _store(budget: Budget, forecast: Forecast) -> None:
    st.session_state[_STORED] = Side(budget, forecast)
