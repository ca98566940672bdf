"""What came of a run: before and after, where the bytes are, and the proof that the smaller model is the same one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import nav, widgets, words
from app.runs import precisionview, runlog, view_model
from app.terms import tip
from compression.plots.ledger import PARTS
from compression.tasks import Metric

_PARTS = {**{name: f"{name}: {meaning}" for name, meaning in PARTS.items()}, "total": "total"}


def show(run: str, now: view_model.RunView, set_up: nav.SetUp) -> None:
    """The final figures of a finished run; nothing while it goes on, and the next click when it ended early."""
    final = runlog.outcome(run)
    if final is None:
        if not now.active:
            nav.link("budget", "Set up another run", **set_up(run))
        return
    st.subheader("What came of it", anchor=False)
    done = precisionview.picked(run, final)
    first, last = done["baseline"], done["final"]
    smaller = f"{words.ratio(first['bytes'] / last['bytes'])} smaller"
    metric = Metric.from_result(done)
    change = _change(metric, first["score"], last["score"])
    work = f"{words.share(last['macs'] / first['macs'], 0)} of dense"
    widgets.metrics(
        ("Size", words.size(last["bytes"]), smaller, words.HELP["bytes"]),
        (f"Test {metric.label}", metric.show(last["score"]), change, metric.explained),
        ("MACs", words.count(last["macs"]), work, words.HELP["macs"]),
        ("BOPs", words.share(last["rel_bops"], 2), "of the dense fp32 model", words.HELP["bops"]),
    )
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Before and after**")
        rows = comparison(first, last, metric, done.get("facts", {}).get("coded_bits"))
        widgets.table(rows, "comparison")
        widgets.download(rows, f"{run}-comparison")
    with right:
        st.markdown("**Where the bytes of the packed file are**")
        rows = ledger_rows(done["ledger"])
        widgets.table(rows, "ledger")
        widgets.download(rows, f"{run}-ledger")
    equality = done.get("equality")
    if equality is not None and any(done.get("removed", {}).values()):
        st.markdown(
            f"Removed for real: the smaller model answers as the masked one does, to within **{equality:.1e}**.",
            help=tip(words.HELP["equality"]),
        )
    where = {"model": now.model, "data": now.data}
    with st.container(horizontal=True):
        nav.link("compare", "Compare with other runs", run=run, **where)
        nav.link("explain", "See what it looks at", run=run, **where)
        nav.link("export", "Take it home", run=run, **where)
        nav.link("budget", "Set up another run", **set_up(run))


def comparison(
    first: Mapping[str, Any], last: Mapping[str, Any], metric: Metric, coded: float | None = None
) -> list[dict[str, str]]:
    """Dense and compressed side by side, in words with units; ``coded``: bits of a weight in the packed file."""
    pairs = [
        ("size of the file", words.size(first["bytes"]), words.size(last["bytes"])),
        ("nominal size", words.size(first["nominal_bytes"]), words.size(last["nominal_bytes"])),
        (f"test {metric.label}", metric.show(first["score"], 1), metric.show(last["score"], 1)),
        ("test loss", f"{first['loss']:.4f}", f"{last['loss']:.4f}"),
        ("MACs", words.count(first["macs"]), words.count(last["macs"])),
        ("BOPs, relative", words.share(first["rel_bops"], 2), words.share(last["rel_bops"], 2)),
        ("units removed", words.share(first["unit_sparsity"], 2), words.share(last["unit_sparsity"], 2)),
        ("weights at zero", words.share(first["weight_sparsity"], 2), words.share(last["weight_sparsity"], 2)),
        ("bits of the weights", "32", _bits(last, "weight")),
        ("bits of the activations", "32", _bits(last, "activation")),
    ]
    if coded is not None:
        pairs.append(("coded bits of a weight", "32", f"{coded:.2f}"))
    return [{"": name, "dense": before, "compressed": after} for name, before, after in pairs]


def ledger_rows(ledger: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ledger as a table, its own order first, unknown parts after."""
    total = ledger.get("total") or 1
    names = [*(n for n in _PARTS if n in ledger), *(n for n in ledger if n not in _PARTS)]
    return [
        {"part": _PARTS.get(name, name), "bytes": ledger[name], "share, %": round(100 * ledger[name] / total, 1)}
        for name in names
        if isinstance(ledger[name], (int, float))
    ]


def _bits(point: Mapping[str, Any], kind: str) -> str:
    """The bit-widths of the layers that have one, from the lowest to the highest."""
    widths = [entry[kind] for entry in (point.get("bits") or {}).values() if entry.get(kind) is not None]
    return words.bits((min(widths), max(widths))).removesuffix(" bits") if widths else "32"


def _change(metric: Metric, before: float, after: float) -> str:
    change = metric.shown(after) - metric.shown(before)
    return "same as the dense model" if abs(change) < 0.005 else f"{change:+.2f} {metric.points} to the dense model"
