"""Explain: which pixels count for the original and for the compressed model, and how alike that is."""

from __future__ import annotations

from app import setup, widgets
from app.explain import answers_view, explained, explainview, features_view, own_input, similarity_view
from app.gallery import gallery, galleryview
from app.runs import bundles
from compression.errors import CompressionError


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "explain",
        "The same pictures before the original and the compressed model, from the test data or your own: which pixels "
        "speak for the answer? Equal accuracy can hide that a model now looks elsewhere.",
    )
    chosen = bundles.choose("explain_run", "No finished run to explain yet. A first one takes seconds.")
    if chosen is None:
        return
    run, result = chosen
    reason = explained.unsuited(run)
    if reason and not explained.question(run):
        explainview.no_maps(run, reason)
        return
    if gallery.is_gallery(run) and not gallery.find(run).whole:
        galleryview.without_model(gallery.find(run), "there is nothing to ask", setup.query)
        return
    try:
        explained.check(run)
        run_key = explained.key(run)
        if reason:
            answers_view.draw(run, run_key, reason)
            return
        explained.models(run_key)
    except CompressionError as error:
        explainview.cannot(run, error)
        return
    macs = float(result["baseline"]["macs"])
    method, count = explainview.controls(run_key)
    try:
        if count:
            first = explainview.side_by_side(run, run_key, method, count, macs)
            features_view.draw(run, run_key, explained.test_pixels(run_key, first), f"test image {first}")
        elif (own := own_input.draw(run_key, method, macs)) is not None:
            features_view.draw(run, run_key, own, "your picture")
    except CompressionError as error:
        widgets.problem(error)
    similarity_view.draw(run, run_key)


page()
