"""The result of a run in tables: before and after, where the bytes are, and the proof that it is the same model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import widgets, words
from app.runs import precisionview, runlog
from app.terms import tip
from compression.plots import run_view
from compression.plots.comparison import comparison
from compression.plots.ledger import PARTS
from compression.tasks import Metric

_PARTS = {**{name: f"{name}: {meaning}" for name, meaning in PARTS.items()}, "total": "total"}


def show(now: run_view.RunView) -> None:
    """What a finished run changed, in tables; nothing while it goes on, or when it ended early."""
    final = runlog.outcome(now.run)
    if final is None or "runs" in final:
        return
    st.subheader("Result", anchor=False)
    done = precisionview.current(final)
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Before and after**")
        metric = Metric.from_result(done)
        rows = comparison(done["baseline"], done["final"], metric, done.get("facts", {}).get("coded_bits"))
        widgets.table(rows, "comparison")
        widgets.download(rows, f"{now.run}-comparison")
    with right:
        st.markdown("**Where the bytes of the packed file are**")
        rows = ledger_rows(done["ledger"])
        widgets.table(rows, "ledger")
        widgets.download(rows, f"{now.run}-ledger")
    equality = done.get("equality")
    if equality is not None and any(done.get("removed", {}).values()):
        st.markdown(
            f"Removed for real: the smaller model answers as the masked one does, to within **{equality:.1e}**.",
            help=tip(words.HELP["equality"]),
        )


def ledger_rows(ledger: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ledger as a table, its own order first, unknown parts after."""
    total = ledger.get("total") or 1
    names = [*(n for n in _PARTS if n in ledger), *(n for n in ledger if n not in _PARTS)]
    return [
        {"part": _PARTS.get(name, name), "bytes": ledger[name], "share, %": round(100 * ledger[name] / total, 1)}
        for name in names
        if isinstance(ledger[name], (int, float))
    ]
