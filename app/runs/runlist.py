"""The list of the user's runs: results as numbers, filters, several at once to compare or delete."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import names, nav, plain, state, theme, widgets, words
from app.runs import records, runbuttons, runlog, sweepview
from app.terms import tip
from compression.plots import run_view
from compression.plots import theme as stages
from compression.runs import labels, summary
from compression.runs.store import RunInfo
from compression.runs.summary import Summary

KEY = "runs_table"
FEW = 4  # runs that need no filters
SHOWN = 5  # runs named in the question whether to delete them


def formats() -> dict[str, Any]:
    """How the columns of the list are shown; their values are numbers, which sort."""
    number = st.column_config.NumberColumn
    return {
        "name": st.column_config.TextColumn(width="medium", pinned=True),
        "tags": st.column_config.ListColumn(),
        "bytes": number(format="localized", help=tip(words.HELP["bytes"])),
        "× smaller": number(format="%.1f"),
        "BOPs %": number(format="%.2f"),
        "epochs": number(format="%g"),
        "seconds": number(format="%.0f", help=tip("Of the last attempt.")),
        "started": st.column_config.DatetimeColumn(format="distance"),
    }


def section(run: str, live: bool) -> None:
    """The list, drawn again while a run goes on; a row opens its run. ``live``: one did when the page was drawn."""
    infos = runlog.listed()
    if state.get("run") != run or (live and not any(info.state in run_view.ACTIVE for info in infos)):
        st.rerun()  # another run was picked here, or the last one has ended
    st.subheader("All runs", anchor=False)
    listed, problems = summary.summaries(runlog.store(), [info for info in infos if info.sweep in (None, run)])
    chosen, several = filtered(listed)
    table(chosen, run, several)
    for problem in problems:
        st.caption(plain.text(problem))
    waiting = sum(info.state == "queued" and info.sweep is None for info in infos)
    if waiting:
        order = "highest priority first, then the oldest"
        st.caption(f"{words.plural(waiting, 'run')} waiting: {runlog.store().slots} at a time, {order}.")
    with st.container(horizontal=True):
        records.download([each.info.id for each in chosen], "runs")
        runbuttons.old_runs(infos)


def table(chosen: Sequence[Summary], run: str, several: bool) -> None:
    """The rows: a click opens a run, or ticks one of ``several``."""
    shown, ids = rows(chosen), [each.info.id for each in chosen]
    if not shown:
        st.caption("No run matches.")
    elif several:
        key = f"{KEY} several {hash(tuple(ids))}"
        event = widgets.table(shown, key, formats(), on_select="rerun", selection_mode="multi-row")
        actions([chosen[place].info for place in event.selection.rows if place < len(chosen)])
    else:
        widgets.picker(shown, ids, run, KEY, lambda picked: state.put("run", picked), formats=formats())


def filtered(listed: Sequence[Summary]) -> tuple[list[Summary], bool]:
    """The runs that match what is typed and picked above the list, and whether several are to be ticked."""
    if len(listed) <= FEW:
        return list(listed), len(listed) > 1 and _several()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Search", key="runs_search", placeholder="name, tag, settings, id", width=240)
        facets = {
            "Method": lambda each: theme.style(each.info.method).label,
            "State": lambda each: widgets.state_words(each.info.state),
            "Model": lambda each: names.model_label(each.info.model),
        }
        picked = {}
        for title, facet in facets.items():
            values = sorted({facet(each) for each in listed})
            if len(values) > 1:
                key = f"runs_{title.lower()}"
                picked[title] = st.multiselect(title, values, key=key, placeholder="all", width=200)
        several = _several()
    matches = [each for each in listed if all(facets[title](each) in some for title, some in picked.items() if some)]
    typed = text.casefold().split()
    return [each for each in matches if all(word in _searched(each) for word in typed)], several


def _several() -> bool:
    return st.toggle("Select several", key="runs_several", help=tip("To compare or delete them together."))


def _searched(each: Summary) -> str:
    info = each.info
    subject = (info.model, info.data, names.subject(info.model, info.data))
    parts = [each.labels.name, *each.labels.tags, info.id, *subject, theme.style(info.method).label]
    return " ".join([*parts, _settings(each)]).casefold()


def rows(listed: Sequence[Summary]) -> list[dict[str, Any]]:
    """Runs as rows of numbers; the score in the unit of its metric, which has a column where there are several."""
    axes = {each.metric.axis for each in listed if each.final}
    score = f"test {next(iter(axes))}" if len(axes) == 1 else "test score"
    named = any(each.labels.name for each in listed)
    tagged = any(each.labels.tags for each in listed)
    return [
        ({"name": each.labels.name} if named else {})
        | {
            "state": _state(each.info),
            "method": theme.style(each.info.method).label,
            "model": names.model_label(each.info.model),
            "data": names.data_label(each.info.data),
            "settings": _settings(each),
        }
        | ({"metric": each.metric.label if each.final else ""} if len(axes) > 1 else {})
        | _figures(each, score)
        | ({"tags": list(each.labels.tags)} if tagged else {})
        | {"run": each.info.id}
        for each in listed
    ]


def _figures(each: Summary, score: str) -> dict[str, Any]:
    info, final, metric = each.info, each.final, each.metric
    started = info.started
    return {
        score: round(metric.shown(final.score), metric.decimals + 1) if final else None,
        "lost": None if each.lost is None else round(each.lost, metric.decimals + 1),
        "bytes": round(final.bytes) if final else None,
        "× smaller": each.smaller,
        "BOPs %": 100 * final.rel_bops if final else None,
        "MACs": round(final.macs) if final else None,
        "seed": info.budget.get("seed") if not info.runs else None,
        "epochs": info.budget.get("epochs"),
        "seconds": each.seconds,
        "started": datetime.datetime.fromtimestamp(started, datetime.UTC) if started else None,
    }


def _state(info: RunInfo) -> str:
    stage = f": {stages.stage(info.phase, info.method).label}" if info.state == "running" and info.phase else ""
    return f"{widgets.state_words(info.state)}{stage}"


def _settings(each: Summary) -> str:
    return sweepview.title(each.info.id, each.info.runs) if each.info.runs else names.request(each.info.budget)


def actions(chosen: Sequence[RunInfo]) -> None:
    """What can be done with the runs that are ticked."""
    pairs = {(info.model, info.data) for info in chosen if not info.runs}
    comparable = [info for info in chosen if info.state == "done" and not info.runs]
    going = [info for info in chosen if info.state in run_view.ACTIVE]
    with st.container(horizontal=True, vertical_alignment="center"):
        ready = len(comparable) == len(chosen) > 1 and len(pairs) == 1
        if st.button("Compare", icon=nav.PAGES["compare"].icon, key="compare_several", disabled=not ready):
            first, second = comparable[:2]
            nav.go("compare", run=first.id, other=second.id, model=first.model, data=first.data)
        with st.popover("Delete", icon=":material/delete:", key="several_menu", disabled=not chosen or bool(going)):
            titles = [names.title(info.id, info.budget, info.runs) for info in chosen]
            rest = len(titles) - SHOWN
            st.markdown("\n".join(f"- {title}" for title in titles[:SHOWN]) + (f"\n- and {rest} more" * (rest > 0)))
            st.caption("Their curves, checkpoints and compressed models are removed for good.")
            if st.button(f"Delete {words.plural(len(chosen), 'run')}", key="delete_several"):
                runbuttons.delete([info.id for info in chosen])
        with st.popover("Tag", icon=":material/sell:", key="tag_menu", disabled=not chosen):
            tag = st.text_input("Tag to add", max_chars=labels.LONGEST_TAG, key="tag_several", on_change="ignore")
            pressed = st.button("Add it", key="add_tag")
            if pressed and tag.strip():
                runbuttons.add_tag([info.id for info in chosen], tag)
            elif pressed:
                st.caption("Type a tag first.")
        st.caption(_why(chosen, going, pairs, ready))


def _why(chosen: Sequence[RunInfo], going: Sequence[RunInfo], pairs: set[tuple[str, str]], ready: bool) -> str:
    """What is ticked, or why something cannot be done with it."""
    if going:
        return "A run that waits or goes on cannot be deleted: cancel it first."
    if len(chosen) < 2 or ready:
        return f"{words.plural(len(chosen), 'run')} ticked."
    return "Only finished runs can be compared." if len(pairs) == 1 else "Only runs of one model and data set compare."
