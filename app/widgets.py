"""Pieces that every page is made of: headline, figures with their table and download, errors in one line."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import livechart, names, nav, plain, projector, theme
from app.terms import tip
from compression.errors import CompressionError
from compression.plots import base

if TYPE_CHECKING:
    import plotly.graph_objects as go

ASSETS = Path(__file__).resolve().parent.parent / "assets"
THEME = ASSETS / "theme"
_STATES = {
    "queued": ("waiting", ":material/schedule:", "gray"),
    "running": ("running", ":material/play_arrow:", "blue"),
    "done": ("done", ":material/check:", "green"),
    "failed": ("failed", ":material/error:", "red"),
    "cancelled": ("cancelled", ":material/block:", "gray"),
    "lost": ("lost", ":material/link_off:", "red"),
    "paused": ("paused", ":material/pause:", "orange"),
}

Rows = Sequence[Mapping[str, Any]]


def style_page() -> None:
    """The few rules the theme has no word for: tabular figures, the width of pages and lessons, a menu that folds."""
    st.html(THEME / "app.css")
    with st.container(key="menu_script"):
        st.html(f"<script>{menu_script()}</script>", unsafe_allow_javascript=True)


@functools.cache
def menu_script() -> str:
    """The only script that pages carry inline; the content policy names its digest."""
    return (THEME / "menu.js").read_text(encoding="utf-8")


def headline(name: str, explanation: str) -> None:
    """The question a page answers, and one or two sentences of help."""
    with st.container(key="headline"):
        st.title(nav.PAGES[name].question, anchor=False)
    st.markdown(explanation)


def problem(error: Exception) -> None:
    """An error as one sentence, without what could be typed on a command line."""
    text = error.what if isinstance(error, CompressionError) else str(error)
    st.error(plain.text(plain.sentence(text)), icon=":material/error:")


def chart(fig: go.Figure, key: str, rows: Rows, alt: str, live: bool = False, **options: Any) -> Any:
    """A figure, and below it the same content as a table with a download; ``live`` as in :func:`plot`."""
    event = plot(fig, key, alt, live, **options)
    table_of(rows, key)
    return event


def plot(fig: go.Figure, key: str, alt: str, live: bool = False, **options: Any) -> Any:
    """A figure alone; its page has the table elsewhere.

    ``live``: its numbers change while it is looked at, so that it changes in place (:mod:`app.livechart`).
    """
    if live:
        return livechart.plot(dressed(fig), key, alt)
    return st.plotly_chart(dressed(fig), key=key, alt=alt, **{"config": base.CONFIG, **options})


def dressed(fig: go.Figure) -> go.Figure:
    """A figure as pages show it: no tags in names, larger text where the address asks for it."""
    return projector.figure(plain.figure(fig))


def table_of(rows: Rows, key: str, label: str = "Table") -> None:
    """A folded table with its CSV download; nothing of it is sent to the browser before it is opened."""
    with st.expander(label, type="compact", key=f"{key}_fold", on_change="rerun") as folded:
        if not folded.open:
            return
        if not rows:
            st.caption("Nothing to list yet.")
            return
        table(rows, f"{key}_table")
        download(rows, key)


def table(rows: Rows, key: str, formats: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """Rows as a table; whole numbers get thousands separators, other columns the ``formats`` named."""
    by_name = columns(rows)
    whole = [name for name, values in by_name.items() if any(isinstance(v, int) for v in values)]
    config = {name: st.column_config.NumberColumn(format="localized") for name in whole}
    config |= {name: each for name, each in (formats or {}).items() if name in by_name}
    return st.dataframe(by_name, hide_index=True, key=key, column_config=config, **options)


def picker(
    rows: Rows,
    ids: Sequence[str],
    current: str,
    key: str,
    pick: Callable[[str], None],
    optional: bool = False,
    formats: Mapping[str, Any] | None = None,
) -> None:
    """Rows of which the ``current`` one is ticked; a click on another picks it by its id.

    The browser keeps a tick as a place in the list, so a list with other rows is another table, whose tick begins anew.
    ``optional``: taking the tick away picks nothing (an empty id); else it comes back, as from a row without an id.
    """
    version = f"{key}_version"
    place = f"{key} {current} {hash(tuple(ids))} {st.session_state.get(version, 0)}"

    def picked() -> None:
        chosen = st.session_state[place].selection.rows
        picked_id = ids[chosen[0]] if chosen else ""
        if picked_id or optional:
            pick(picked_id)
        else:
            st.session_state[version] = st.session_state.get(version, 0) + 1

    ticked = {"selection": {"rows": [ids.index(current)] if current in ids else []}}
    table(rows, place, formats, on_select=picked, selection_mode="single-row", selection_default=ticked)


def download(rows: Rows, key: str, label: str = "CSV") -> None:
    """Offer rows as a CSV file."""
    st.download_button(
        label,
        lambda: to_csv(rows),
        file_name=f"{key}.csv",
        mime="text/csv",
        icon=":material/download:",
        key=f"{key}_csv",
        on_click="ignore",
    )


def columns(rows: Rows) -> dict[str, list[Any]]:
    """Rows as columns, every column of every row present."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def text_columns(rows: Rows) -> dict[str, list[Any]]:
    """Rows as columns for ``st.table``, which reads its cells as Markdown."""
    return {
        name: [plain.text(v) if isinstance(v, str) else v for v in values] for name, values in columns(rows).items()
    }


def to_csv(rows: Rows) -> str:
    """Rows as comma-separated text with a head line; formulas are defused for spreadsheets."""
    table = columns(rows)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table)
    for values in zip(*table.values(), strict=True):
        writer.writerow([f"'{v}" if isinstance(v, str) and v[:1] in ("=", "+", "-", "@") else v for v in values])
    return stream.getvalue()


def state_badge(state: str) -> None:
    """The state of a run, in a word, with a symbol and a colour."""
    label, icon, color = _STATES.get(state, (state, ":material/help:", "gray"))
    st.badge(label, icon=icon, color=color)  # type: ignore[arg-type]


def state_words(state: str) -> str:
    """The state of a run for a table."""
    return _STATES.get(state, (state, "", ""))[0]


def method_badge(method: str) -> None:
    """The method of a run in its colour."""
    look = theme.style(method)
    st.badge(look.label, color=theme.badge(look))  # type: ignore[arg-type]


def gallery_badge(shown: bool) -> None:
    """The mark of a run that came with the app and stays as it is."""
    if shown:
        st.badge("gallery", icon=":material/collections_bookmark:", color="gray")


def choice(
    label: str, labels: Mapping[str, str], current: str, key: str, choose: Callable[[str], None], **options: Any
) -> None:
    """A list to choose one from by its label; the address says which is chosen, and ``choose`` changes it there."""
    st.session_state[key] = current
    st.selectbox(
        label,
        list(labels),
        key=key,
        format_func=lambda value: labels.get(value, value),
        on_change=lambda: choose(st.session_state[key]),
        **options,
    )


def switch(label: str, values: Iterable[str], default: str, key: str, **options: Any) -> str:
    """One of a few values beside each other; the address holds it as ``key``."""
    common: dict[str, Any] = {"default": default, "required": True, "key": key, "bind": "query-params"}
    return st.segmented_control(label, list(values), **common, **options) or default


def empty(text: str, page: str, label: str, **query: str) -> None:
    """Nothing to show: say so, and offer the next click."""
    with st.container(border=True):
        st.markdown(text)
        nav.link(page, label, **query)


def context(model: str, data: str) -> None:
    """Which model and data this page is about, and the way to change them."""
    pair = f"{names.model_label(model)}, no data" if data == "none" else names.subject(model, data)
    nav.link("model", f"{pair}: change", plain.text(names.path(model)), model=model, data=data)


def metrics(*cells: tuple[str, str, str, str]) -> None:
    """Figures side by side, as many in a row as fit: label, value, what it is compared to, help."""
    with st.container(horizontal=True, gap="medium"):
        for label, value, compared, explained in cells:
            with st.container(width="content"):
                st.metric(label, value, help=tip(explained))
                if compared:
                    st.caption(compared)
