"""The buttons of a run: pause and cancel while it runs, resume where it stopped, delete (in a menu) when it is over."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app import names, state, widgets, words
from app.runs import runlog
from compression.errors import CompressionError
from compression.plots import run_view
from compression.runs import labels
from compression.runs.control import outdated
from compression.runs.store import RunInfo

RESUMABLE = ("paused", "cancelled", "failed", "lost")
OLD_DAYS = 30
FEW = 5  # named without scrolling


def draw(run: str, status: str, title: str, *, part: bool) -> None:
    """What can be done with a run of this ``status``; ``part``: one of a sweep, which goes on as a whole.

    ``title`` names the run in the question whether to delete it.
    """
    if status in run_view.ACTIVE:
        if not part and st.button(
            "Pause", icon=":material/pause:", key="pause", help="Writes a checkpoint and stops; resume goes on there."
        ):
            _carry_out(lambda: runlog.pause(run), "Writing a checkpoint…")
        if st.button("Cancel", icon=":material/stop:", key="cancel", help="Stops the run; what it wrote so far stays."):
            _carry_out(lambda: runlog.cancel(run), "Stopping…")
    if part:
        with st.popover("More", icon=":material/more_vert:", key="more"):
            rename(run)
        return
    if status in RESUMABLE and st.button(
        "Resume",
        icon=":material/play_arrow:",
        key="resume",
        type="primary",
        help="Goes on from the last checkpoint, as if it had never stopped; from the beginning when there is none.",
    ):
        _carry_out(lambda: runlog.resume(run), "Starting…")
    with st.popover("More", icon=":material/more_vert:", key="more"):
        rename(run)
        if status not in run_view.ACTIVE:
            st.markdown(f"Delete **{title}**? Its curves, checkpoint and compressed model are removed for good.")
            if st.button("Delete this run", key="delete", icon=":material/delete:"):
                _carry_out(lambda: _delete([run]), "Deleting…")


def rename(run: str) -> None:
    """Give the run a name and tags, by which lists can be searched."""
    try:
        now = labels.read(runlog.folder(run))
    except CompressionError as error:
        widgets.problem(error)
        now = labels.Labels()
    with st.form(f"labels {run}", border=False):
        name = st.text_input("Name", now.name, max_chars=labels.LONGEST_NAME, key=f"name {run}")
        tags = st.text_input("Tags, separated by commas", ", ".join(now.tags), key=f"tags {run}")
        if st.form_submit_button("Save name and tags", key=f"save_labels {run}"):
            _carry_out(lambda: labels.write(runlog.folder(run), labels.labels(name, tags.split(","))), "Saving…")


def old_runs(infos: list[RunInfo]) -> None:
    """Delete what stopped long ago, all at once."""
    with st.popover("Delete old runs", icon=":material/auto_delete:", key="old_runs"):
        days = st.number_input("stopped more than this many days ago", min_value=0, value=OLD_DAYS, step=1, key="days")
        chosen = outdated(infos, days)
        titles = {info.id: names.title(info.id, info.budget, info.runs) for info in infos}
        with st.container(height=160 if len(chosen) > FEW else "content"):
            st.caption("\n".join(f"- {titles[run]}" for run in chosen) or "There is none.")
        if st.button(f"Delete {words.plural(len(chosen), 'run')}", key="delete_old", disabled=not chosen):
            _carry_out(lambda: _delete(chosen), "Deleting…")


def delete(runs: list[str]) -> None:
    """Delete these runs and draw the page anew; an error is shown."""
    _carry_out(lambda: _delete(runs), "Deleting…")


def add_tag(runs: list[str], tag: str) -> None:
    """Add a tag to each of these runs and draw the page anew; an error is shown."""

    def add() -> None:
        for folder in map(runlog.folder, runs):
            now = labels.read(folder)
            labels.write(folder, labels.labels(now.name, (*now.tags, tag)))

    _carry_out(add, "Saving…")


def _delete(runs: list[str]) -> None:
    runlog.delete(runs)
    if state.get("run") in runs:
        state.put("run", "")


def _carry_out(verb: Callable[[], None], meanwhile: str) -> None:
    """Do it and draw the page anew; an error is shown."""
    try:
        with st.spinner(meanwhile):
            verb()
    except CompressionError as error:
        widgets.problem(error)
    else:
        st.rerun()
