"""The graph on the Groups page: its level of detail, the search, the part that is shown, and the effect of a click."""

from __future__ import annotations

import streamlit as st

from app import names, plain, state, widgets, words
from app.groups import drawing, grouping, overlays, quantized, quantview
from app.model import catalog, networks
from app.terms import tip
from compression.plots import base, placing
from compression.plots import graph as figures

TALLEST = 760
HIDDEN = ["toImage", "zoom2d", "pan2d", "select2d", "lasso2d", "autoScale2d"]
CONFIG = {**base.CONFIG, "displayModeBar": True, "modeBarButtonsToRemove": HIDDEN}
"""Zoom in and out, fit; the drawing is moved by the mouse or a finger."""
ALL, GROUP, SEARCH = "Whole graph", "Selected group", "Search"
_FOCUS = {ALL: "", GROUP: "group", SEARCH: "search"}


def picture(subject: catalog.ChosenModel, network: networks.Network) -> quantized.View:
    """The tools in a row, the graph, its legend; a click on a node selects its group, a click on a module opens it.

    Returns what is drawn.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", key="graph_tools"):
        tools = st.container(horizontal=True, vertical_alignment="bottom")
        more = st.popover(
            "More", icon=":material/tune:", help=tip("Quantizers, opened modules, the part that is shown.")
        )
    with more:
        view = quantview.choose(subject)
    with tools:
        level, search = _controls(view)
        overlay = overlays.choose(subject, network)
    drawn = quantized.traced(view)
    with more:
        part = _part_shown(search)
        opened = _opened(subject, level)
    info = placing.graph_info(
        drawn.plain,
        drawn.node_groups,
        drawing.placed(view, level, opened),
        parameters=drawing.parameters(drawn),
        selected=state.get("group") or None,
        search=search,
        focus=_FOCUS[part],
        hit=st.session_state.get("graph_hit"),
    )
    _search_result(info, search)
    with more:
        _modules(subject, level, info, opened)
    shown = f"{subject.model} {view.quantizers} {view.merged} {overlay.title if overlay else ''} {info.window}"
    _chart(info, overlay, f"graph_chart {shown} {level.key} {len(opened)} {hash(opened)} {part}", subject, level)
    widgets.table_of(info.rows, "graph", "Nodes as a table")
    if overlay is not None:
        widgets.table_of(overlay.rows, "overlay")
    return view


def _chart(
    info: placing.GraphInfo,
    overlay: figures.Overlay | None,
    key: str,
    subject: catalog.ChosenModel,
    level: grouping.Level,
) -> None:
    """The legend, and the drawing in a frame that scrolls."""
    st.html(figures.legend_html(info))
    fig = figures.graph_figure(info, legend=False, overlay=overlay)
    model = names.model_label(subject.model)
    alt = f"Layered graph of {model}, {len(info.nodes)} nodes. The table below it holds the same."
    with st.container(height=min(TALLEST, int(fig.layout.height) + 40), border=True, key="graph_frame"):
        st.plotly_chart(
            plain.figure(fig),
            key=key,
            on_select=lambda: _clicked(key, subject, level),
            selection_mode="points",
            config=CONFIG,
            alt=alt,
        )


def choose(group: str) -> None:
    """Select a group, or none."""
    state.put("group", group)
    if not group and st.session_state.get("graph_view") == GROUP:
        st.session_state["graph_view"] = ALL


def label(level: grouping.Level, count: int) -> str:
    """A detail for people: its name and how many boxes it draws."""
    name = "Operations" if level.every_op else "Layers" if level.depth is None else f"Blocks, depth {level.depth}"
    return f"{name} · {count:,}"


def _controls(view: quantized.View) -> tuple[grouping.Level, str]:
    counts = drawing.levels(view)
    shown = (view.subject.model, view.quantizers, view.merged)
    most = grouping.MOST_BOXES if view.merged else grouping.MOST_TRACED
    options = list(counts)
    keys = [level.key for level in options]
    if st.session_state.get("detail_of") != shown or st.session_state.get("detail") not in keys:
        st.session_state["detail"] = grouping.default_level(counts, most).key
        st.session_state["detail_of"] = shown
    names = {level.key: label(level, count) for level, count in counts.items()}
    chosen = st.selectbox(
        "Detail",
        keys,
        key="detail",
        format_func=names.__getitem__,
        width=150,
        help=tip(
            "Blocks merge the operations of a module into one box, with its units and parameters in sum. Depth "
            "counts the parts of the module's name that are kept apart. Layers leaves out norms, activations and "
            "reshapes; Operations draws every single one. The number says how many boxes are drawn."
        ),
    )
    search = st.text_input(
        "Find",
        key="graph_search",
        bind="query-params",
        placeholder="name or kind",
        width=150,
        icon=":material/search:",
        on_change=_searched,
        help=tip("Part of a name (layer3.0), of a kind (norm, concat) or of an ATen name (aten.add). Press Enter."),
    )
    return options[keys.index(chosen)], search.strip()


def _searched() -> None:
    text = st.session_state["graph_search"].strip()
    st.session_state["graph_view"] = SEARCH if text else ALL
    st.session_state["graph_hit"] = None


def _next_hit(count: int) -> None:
    hit = st.session_state.get("graph_hit")
    st.session_state["graph_hit"] = 0 if hit is None else (hit + 1) % count
    st.session_state["graph_view"] = SEARCH


def _part_shown(search: str) -> str:
    """Which part of the drawing is shown; only what there is can be chosen."""
    options = [ALL, *([GROUP] if state.get("group") else []), *([SEARCH] if search else [])]
    if st.session_state.get("graph_view") not in options:
        linked = bool(search) and "graph_view" not in st.session_state  # a link with a search shows its results
        st.session_state["graph_view"] = SEARCH if linked else ALL
    if len(options) == 1:
        return ALL
    return st.segmented_control("Show", options, key="graph_view", required=True) or ALL


def _search_result(info: placing.GraphInfo, search: str) -> None:
    if not search:
        return
    count = sum(spot.matched for spot in info.nodes)
    if count:
        hit = st.session_state.get("graph_hit")
        which = "" if hit is None else f" Shown: number {hit + 1}."
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{count:,} of {len(info.nodes):,} nodes hold “{plain.text(search)}”.{which}", width="content")
            icon = ":material/arrow_forward:"
            st.button("Next", key="next_hit", icon=icon, type="tertiary", on_click=_next_hit, args=(count,))
    else:
        st.info(
            f"No node holds “{plain.text(search)}”. At the detail “Operations” norms, activations and reshapes are "
            "searched too; a kind such as conv or add is found as well.",
            icon=":material/search_off:",
        )


def _opened(subject: catalog.ChosenModel, level: grouping.Level) -> tuple[str, ...]:
    """The modules this tab has opened in this drawing."""
    if st.session_state.get("opened_of") != (subject.model, level.key):
        st.session_state["opened_of"] = (subject.model, level.key)
        st.session_state["opened"] = []
    return tuple(st.session_state.get("opened", ()))


def _modules(
    subject: catalog.ChosenModel, level: grouping.Level, info: placing.GraphInfo, opened: tuple[str, ...]
) -> None:
    """Open and close modules without the mouse."""
    closed = list(dict.fromkeys(spot.path for spot in info.nodes if spot.path))
    if not closed and not opened:
        return
    st.session_state["opened"] = list(opened)
    st.multiselect(
        "Opened modules",
        [*opened, *closed],
        key="opened",
        placeholder=f"click a square, or choose one of {words.plural(len(closed), 'module')}",
        help=tip("An opened module shows its parts. Remove it here to close it again."),
    )


def _clicked(key: str, subject: catalog.ChosenModel, level: grouping.Level) -> None:
    points = st.session_state[key].selection.points
    ids = [str(i) for i in points[0]["customdata"]] if points else []
    if ids and ids[0].startswith(grouping.MODULE):
        path = ids[0].removeprefix(grouping.MODULE).partition("#")[0]
        st.session_state["opened"] = [*st.session_state.get("opened", ()), path]
        return
    choose(ids[1] if len(ids) > 1 else "")
