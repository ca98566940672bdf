"""The score of a method's allocation before any training, on the Budget page: measured once, in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import streamlit as st

from app import plain, widgets
from app.model import catalog, studyview
from app.terms import tip
from compression import methods
from compression.asks import BITS_OPTION, BitsAsk
from compression.budget import Budget
from compression.forecast import Forecast
from compression.jobs import curve as study
from compression.plots import curve as figures
from compression.tasks import Metric

EXPLAINED = (
    "The allocation of {method} at {count} budgets, measured on validation images before any training. Where the score "
    "breaks down, the training of a run has most to do."
)
VIEWS = {"recomputed": "Batch norms refitted", "score": "As allocated"}
REFITTED = (
    "A batch norm remembers mean and variance of what the dense layers gave it. Smaller layers give something else: "
    "measuring both anew on training images, without learning anything, is a run's first step and often most of the "
    "recovery."
)
BY_SPARSITY = ("sparsity", "Accuracy without training over the sparsity, a line for each bit-width.")
BY_ERROR = ("error", "Accuracy without training over the predicted error of the weights.")


def section(subject: catalog.ChosenModel, budget: Budget, forecast: Forecast, path: Path | None) -> None:
    """Both charts when they have been measured, else the way there."""
    st.subheader("Accuracy before any training", anchor=False)
    method, question = methods.get(budget.method), study.request(budget)
    if method.ask("--sparsity") is None:  # the same at every sparsity
        question["grid"] = [pair for pair in question["grid"] if pair[0] == 0]
    explained = EXPLAINED.format(method=plain.text(method.info.label), count=len(question["grid"]))

    def draw(result: dict[str, Any]) -> None:
        charts(result, budget, forecast, explained)

    studyview.show(study.KIND, subject, path, question, "Measure accuracy without training", explained, draw)


def charts(result: dict[str, Any], budget: Budget, forecast: Forecast, explained: str) -> None:
    """Accuracy by sparsity (of a method that is asked for it), and by the error that the allocation predicts."""
    method = methods.get(budget.method)
    sparsity, bits = method.ask("--sparsity"), cast("BitsAsk", method.ask(BITS_OPTION))
    limits = bits.limits(bits.value(budget.asks)) or (0.0, 0.0)
    share = 0.0 if sparsity is None else sparsity.value(budget.asks)
    shown = _view() if any(row["recomputed"] is not None for row in result["rows"]) else "score"
    metric = Metric.from_result(result)
    info = figures.curve_info(result["rows"], result["dense"], limits[1], share, forecast.error, shown, metric)
    for by, alt in (BY_SPARSITY, BY_ERROR) if sparsity is not None else (BY_ERROR,):
        widgets.chart(figures.curve_figure(info, by), f"curve_{by}", info.rows, alt)
    st.caption(
        f"{explained} {result['images']:,} images; bold: {info.nearest:g} bits, the measured ones next to the "
        f"requested {limits[1]:g}; dotted: this budget; dashed: the dense model, {metric.show(result['dense'])}. The "
        "bounds of layers and the method's options hold here, too."
    )


def _view() -> str:
    chosen = st.segmented_control(
        "Accuracy shown", tuple(VIEWS), default="recomputed", required=True, format_func=VIEWS.__getitem__,
        key="curve_view", help=tip(REFITTED),
    )  # fmt: skip
    return chosen or "recomputed"
