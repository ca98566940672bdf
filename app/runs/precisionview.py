"""A run whose weights serve several bit-widths: a slider after the run, and everything said at the bits chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from app import names, state
from app.runs import layeredview, runlog
from app.terms import tip
from compression.errors import CompressionError
from compression.plots.layered import LayeredLine
from compression.runs.read_at import read_at, widths_served
from compression.tasks import Metric

FIELD = "read_at"
HELP = (
    "The run trained one set of weights for every bit-width: fewer bits are the high bits of the same weights. Every "
    "stop is a model that was packed and measured on the test split; nothing is computed now."
)
LINE = "Thin lines of dots: single runs that are read at several bit-widths."


def current(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result at the bits that the address names; the result itself at its most bits, or with one precision."""
    bits = _labels(result).get(state.get(FIELD))
    return result if bits is None or bits == max(widths_served(result)) else read_at(result, bits)


def picked(run: str, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same, with the slider that chooses the bits."""
    labels = _labels(result)
    if len(labels) < 2:
        return result
    chosen = state.get(FIELD) if state.get(FIELD) in labels else list(labels)[-1]
    key = f"{FIELD}-{run}"
    st.select_slider(
        "Bits a weight, on average",
        list(labels),
        value=chosen,
        key=key,
        help=tip(HELP),
        on_change=lambda: state.put(FIELD, st.session_state[key]),
    )
    return current(result)


def _labels(result: Mapping[str, Any]) -> dict[str, float]:
    return {f"{bits:.2f}".rstrip("0").rstrip("."): bits for bits in widths_served(result)}


def lines(runs: Iterable[str]) -> list[LayeredLine]:
    """Of the runs that serve several bit-widths, and of those with a layered file, the line of what else they are.

    Runs whose result cannot be read have none.
    """
    runs = list(runs)
    result = layeredview.lines(runs)
    for run in runs:
        try:
            outcome = runlog.outcome(run)
        except CompressionError:
            continue  # the page of the run says what is wrong with it
        if outcome and outcome.get("precisions"):
            result.append(_line(run, outcome))
    return result


def legend(drawn: Sequence[LayeredLine]) -> str:
    """What the lines of a chart are, a sentence for each kind, with a blank before it."""
    kinds = {line.whole for line in drawn}
    return (f" {layeredview.LINE}" if True in kinds else "") + (f" {LINE}" if False in kinds else "")


def _line(run: str, outcome: Mapping[str, Any]) -> LayeredLine:
    points = [row["point"] for row in outcome["precisions"]]
    places = tuple((int(point["bytes"]), float(point["score"])) for point in points)
    budget = runlog.folder(run).budget().to_dict()
    return LayeredLine(
        run, str(budget["method"]), names.request(budget), places, Metric.from_result(outcome), whole=False
    )
