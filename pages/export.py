"""Export: the file with everything, and how it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import setup, widgets, words
from app.gallery import gallery, galleryview
from app.runs import bundles, headline, layeredview, outcome, precisionview, runlog
from compression.errors import CompressionError
from compression.jobs import export_run
from compression.tasks import Metric

SHIPPED = ("weights.packed", "model.int8.onnx", "model.onnx")  # the smallest first


def bundle(run: str, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make it, watch it, download it; returns the measurements once there are some."""
    if gallery.is_gallery(run) and not gallery.find(run).whole:
        galleryview.without_model(gallery.find(run), "there is nothing to put in a bundle", setup.query)
        return {}
    try:
        now = export_run.status(runlog.workplace(run))
    except CompressionError as error:
        widgets.problem(error)
        return {}
    if now.state == export_run.RUNNING:
        st.fragment(run_every="1s")(bundles.watch)(run)
        return {}
    if now.state == export_run.FAILED:
        widgets.problem(CompressionError(now.error))
    if now.state == export_run.DONE:
        bundles.download(run)
        st.caption(f"{in_it(now.result)} No pickles.")
    else:
        st.markdown(
            "One zip with everything: ONNX, a torch program, the packed weights, a loader that needs none of our code, "
            "and a model card. Agreement and latency are measured while it is made."
        )
    bundles.make(run, now.result, again=now.state == export_run.DONE, bits=result.get("read_at"))
    return now.result


def in_it(measured: Mapping[str, Any]) -> str:
    """Why a bundle is larger than the model in it, and which of its files that is."""
    sizes = {file["file"]: file["bytes"] for file in bundles.file_rows(measured)}
    ship = next((name for name in SHIPPED if name in sizes), None)
    inside = (
        "It holds the model in several forms: ONNX, a torch program, plain weights, with a loader and a model card."
    )
    return inside if ship is None else f"{inside} The one to ship is {ship}, {words.size(sizes[ship])}."


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "export", "A bundle that is really smaller, runs without this program, and states what was measured."
    )
    chosen = bundles.choose("export_run", "No finished run to export yet. Start one with a click.")
    if chosen is None:
        return
    run = chosen[0]
    result = precisionview.picked(*chosen)
    headline.figures(result["final"], result["baseline"], Metric.from_result(result))
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("The bundle", anchor=False)
        measured = bundle(run, result)
    with right:
        st.subheader("Where the bytes are", anchor=False)
        rows = outcome.ledger_rows(result["ledger"])
        widgets.table(rows, "ledger")
        widgets.download(rows, f"{run}-ledger")
    if not gallery.is_gallery(run) or gallery.find(run).whole:
        layeredview.section(*chosen)
    budget = runlog.folder(run).budget()
    bundles.agreement(measured)
    bundles.latency(measured, budget.method)
    if measured:
        bundles.snippet(run, budget)
        widgets.table_of(bundles.file_rows(measured), "files", "Files in the bundle")


page()
