"""The result of a run in tables: before and after, where the bytes are, and the proof that it is the same model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import widgets, words
from app.runs import precisionview, runlog, view_model
from app.terms import tip
from compression.plots.ledger import PARTS
from compression.tasks import Metric

_PARTS = {**{name: f"{name}: {meaning}" for name, meaning in PARTS.items()}, "total": "total"}


def show(now: view_model.RunView) -> None:
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
        (zeros(last), words.share(first["weight_sparsity"], 2), words.share(last["weight_sparsity"], 2)),
        ("bits of the weights", "32", _bits(last, "weight")),
        ("bits of the activations", "32", _bits(last, "activation")),
    ]
    if coded is not None:
        pairs.append(("coded bits of a weight", "32", f"{coded:.2f}"))
    return [{"": name, "dense": before, "compressed": after} for name, before, after in pairs]


def zeros(*points: Mapping[str, Any]) -> str:
    """What the share of weights that are zero is called: those of removed units count among them."""
    if any(point["unit_sparsity"] > 0 for point in points):
        return "weights removed or rounded to zero"
    return "weights at zero"


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
