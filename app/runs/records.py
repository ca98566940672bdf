"""Runs as a CSV for a program: one row a run, numbers with their seed, asks, options, weights, versions and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import widgets
from app.runs import runlog
from compression.errors import CompressionError
from compression.runs import summary

HELP = "One row a run, for a program: results, seed, epochs, every ask and option, weights, versions, seconds."


def download(runs: Sequence[str], key: str) -> None:
    """Offer runs as a CSV; a sweep as its runs. Their files are read on the click."""
    st.download_button(
        "CSV",
        lambda: widgets.to_csv(rows(runs)),
        file_name=f"{key}.csv",
        mime="text/csv",
        help=HELP,
        icon=":material/download:",
        key=f"{key}_csv",
        on_click="ignore",
    )


def rows(runs: Sequence[str]) -> list[dict[str, Any]]:
    """Every number that the files of the runs hold; of one that cannot be read the reason as its state."""
    result = []
    for run in dict.fromkeys(single for each in runs for single in _single(each)):
        try:
            result.append(summary.record(runlog.folder(run), run))
        except CompressionError as error:
            result.append({"run": run, "state": str(error)})
    return result


def _single(run: str) -> list[str]:
    try:
        return runlog.children(run) or [run]
    except CompressionError:
        return [run]  # its row says what is wrong with it
