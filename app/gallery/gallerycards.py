"""The gallery on Start: one picture, a card for each run worth a look, the rest folded away by collection."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import nav, widgets, words
from app.gallery import gallery
from app.gallery.gallery import Exhibit
from compression import tasks
from compression.plots import front as figures
from compression.plots import front_data
from compression.runs.gallery import Collection

IN_A_ROW = 4


def picture() -> None:
    """The front of the first collection: what smaller costs, on real runs."""
    whole = _whole()
    if not whole:
        return
    info = front_data.front_info([gallery.front_run(exhibit) for exhibit in _of_first_subject(whole[0])])
    st.markdown(f"**{gallery.subject(whole[0].exhibits[0].info)}: each point is one finished run**")
    widgets.chart(figures.front_figure(info, 340), "gallery_front", info.rows, info.sentence)


def _of_first_subject(collection: Collection) -> list[Exhibit]:
    """The finished runs of the same model and data as the first one, those of sweeps included, the last ones first."""
    first = collection.exhibits[0].info
    ended = [e for e in collection.exhibits if e.info.state == "done" and not e.info.runs]
    return [e for e in reversed(ended) if (e.info.model, e.info.data) == (first.model, first.data)]


def draw() -> None:
    """All collections: cards for runs with models, all that the first shows, a row of others; lists for the rest."""
    collections = gallery.read().collections
    if not collections:
        return
    carded = {c.name: _worth_a_card(c, None if c is collections[0] else IN_A_ROW) for c in _whole()}
    st.subheader("Finished runs to open", anchor=False)
    st.caption("Real runs that came with the app. Open one, then compare, explain and export it; nothing is trained.")
    for exhibits in carded.values():
        cards(exhibits)
    for collection in collections:
        folded(collection, without=[exhibit.name for exhibit in carded.get(collection.name, ())])


def _worth_a_card(collection: Collection, most: int | None) -> list[Exhibit]:
    """The runs that the collection shows and that have their models, in its order."""
    openable = [e for e in collection.exhibits if e.whole or e.info.runs]
    return ([e for e in openable if e.name in collection.shown] or openable[:IN_A_ROW])[:most]


def _whole() -> list[Collection]:
    """The collections whose runs have their compressed models."""
    return [c for c in gallery.read().collections if any(exhibit.whole for exhibit in c.exhibits)]


def cards(shown: list[Exhibit]) -> None:
    """One card for each run, some in a row."""
    for start in range(0, len(shown), IN_A_ROW):
        for column, exhibit in zip(st.columns(IN_A_ROW), shown[start : start + IN_A_ROW], strict=False):
            with column.container(border=True, height="stretch"):
                card(exhibit)


def card(exhibit: Exhibit) -> None:
    """Method, request, result, a line on what to see, and the click that opens it."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        widgets.method_badge(exhibit.info.method)
        st.caption(gallery.subject(exhibit.info), width="content")
    st.markdown(f"**{headline(exhibit)}**")
    request = gallery.request(exhibit)
    st.caption(f"{request[:1].upper()}{request[1:]}. {exhibit.line}".strip())
    link(exhibit, f"Open {'sweep' if exhibit.info.runs else 'run'} {exhibit.name}")


def headline(exhibit: Exhibit) -> str:
    """Score and size of a run, or of the ends of a sweep."""
    points = [e.final for e in gallery.read().parts(exhibit.info.id) if e.final] or [exhibit.final or {}]
    baseline = exhibit.baseline or next((e.baseline for e in gallery.read().parts(exhibit.info.id)), None) or {}
    ends = points[:1] + points[-1:] if len(points) > 1 else points
    metric = tasks.metric_of(ends[0])
    scores = " to ".join(metric.show(point.get("score")) for point in ends)
    size = " to ".join(words.size(point.get("bytes", 0)) for point in ends)
    smaller = words.ratio(baseline["bytes"] / ends[-1]["bytes"]) if baseline and ends[-1].get("bytes") else ""
    saved = f" ({'up to ' if len(ends) > 1 else ''}{smaller} smaller)" if smaller else ""
    return f"{scores} {metric.label}, {size}{saved}"


def link(exhibit: Exhibit, label: str) -> None:
    """Opens the run on Runs."""
    nav.link("runs", label, run=exhibit.info.id, model=exhibit.info.model, data=exhibit.info.data)


def folded(collection: Collection, without: Sequence[str]) -> None:
    """The runs of a collection as a list of links; nothing of it is sent to the browser before it is opened."""
    rest = [e for e in collection.exhibits if e.name not in without and e.info.sweep is None]
    if not rest:
        return
    only = "" if any(exhibit.whole for exhibit in rest) else ", figures only"
    label = f"{gallery.subject(collection.exhibits[0].info)}: {words.plural(len(rest), 'run')}{only}"
    with st.expander(label, key=f"fold {collection.name}", on_change="rerun") as fold:
        if not fold.open:
            return
        for exhibit in rest:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                widgets.method_badge(exhibit.info.method)
                link(exhibit, gallery.title(exhibit))
                st.caption(f"{headline(exhibit)}. {exhibit.line}".strip())
