"""Where a lesson leads: the page that shows the same, with the chosen run where it fits, else one of the gallery."""

from __future__ import annotations

from app import nav, state
from app.gallery import gallery
from app.learn.lessons.lesson import See
from app.runs import runlog
from compression.errors import CompressionError

OWN_RUN, FINISHED_RUN = "your run", "a finished run"


def draw(see: See) -> None:
    """The link."""
    query, whose = target(see)
    nav.link(see.page, see.label.format(run=whose), **query)


def target(see: See) -> tuple[dict[str, str], str]:
    """The address of a link, and whose run it opens in words."""
    where = {"model": state.get("model"), "data": state.get("data")}
    if not see.run:
        return {**where, **see.query}, ""
    chosen = state.get("run")
    if chosen and _fits(see, chosen):
        return {**where, **see.query, **_about(chosen), "run": chosen}, OWN_RUN
    return {**where, **see.query, **_about(see.run), "run": see.run}, FINISHED_RUN


def _fits(see: See, run: str) -> bool:
    """Is it there, of a method the lesson is about, and with its model where the page needs one?"""
    try:
        method = runlog.folder(run).spec()["budget"]["method"]
        kept = not gallery.is_gallery(run) or gallery.find(run).whole
    except CompressionError:
        return False
    return (not see.methods or method in see.methods) and (kept or not see.whole)


def _about(run: str) -> dict[str, str]:
    budget = runlog.folder(run).spec()["budget"]
    return {"model": str(budget["model"]), "data": str(budget["data"])}
