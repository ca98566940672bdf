"""The compared runs as one file to send: which ones, and the button."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.compare import finals
from app.gallery import gallery
from app.runs import runlog
from app.terms import tip
from compression.plots.candidates import CandidatesInfo
from compression.report import collect, document, report

FIRST, MOST = 5, 10
"""Runs that are chosen at first, and those that one file may have here; the command takes any number."""
HELP = (
    "One HTML file that opens in any browser, without this app and without a network: the front, and of each run its "
    "layers, the bytes of its file, what it confuses or its pictures, its budget and where it comes from."
)


def button(info: CandidatesInfo, titles: dict[str, str], picked: str, other: str) -> None:
    """Choose runs (``titles``: id → title, finished ones), at first those picked and those on the front."""
    with st.popover("Report", icon=":material/description:", help=tip(HELP)):
        chosen = st.multiselect(
            f"Runs in the file, at most {MOST}", list(titles), first(info, list(titles), picked, other),
            format_func=titles.__getitem__, max_selections=MOST, key=f"report_runs {picked} {other}",
        )  # fmt: skip
        st.download_button(
            "Save report.html",
            lambda: page(chosen),
            file_name="report.html",
            mime="text/html",
            icon=":material/download:",
            key="report_file",
            on_click="ignore",
            disabled=not chosen,
            help=tip("Choose a run first.") if not chosen else None,
        )


def first(info: CandidatesInfo, runs: Sequence[str], picked: str, other: str) -> list[str]:
    """The picked run, the one beside it, then those on the front from the best on."""
    front = (run for mark in reversed(info.front) for run in (mark.members or (mark.run,)))
    return [run for run in dict.fromkeys([picked, other, *front]) if run in runs][:FIRST]


def page(runs: Sequence[str]) -> str:
    """The file, as the command ``report`` makes it; models are traced as this app offers them."""
    return document(report(collect(runs, runlog.store().root, gallery.read), finals.dense_graph))
