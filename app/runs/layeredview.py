"""One file, many qualities on the Export page: the job that makes it, and how much of it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from app import names, widgets, words
from app.gallery import gallery
from app.runs import permissions, runlog
from app.terms import tip
from compression.errors import CompressionError
from compression.export.layered_table import FILE, LayeredTable, described, stored
from compression.jobs import layered_run
from compression.plots.layered import LayeredLine, layered_figure
from compression.runs import gallery as library
from compression.runs.folder import RunFolder

ABOUT = (
    "One file instead of many: the highest bit of every weight first, then the next ones, where they save most. Stop "
    "reading anywhere between two planes, and what was read is a model."
)
LINE = "Thin lines of dots: prefixes of one layered file each (see Export)."


def section(run: str, result: Mapping[str, Any]) -> None:
    """Make it, watch it, and slide how much of it is read."""
    st.subheader("One file, many qualities", anchor=False)
    st.markdown(ABOUT)
    try:
        place = runlog.workplace(run)
        now, table = layered_run.status(place), stored(place)
    except CompressionError as error:
        widgets.problem(error)
        return
    if now.state == layered_run.RUNNING:
        st.fragment(run_every="1s")(_watch)(run)
        return
    if now.state == layered_run.FAILED:
        widgets.problem(CompressionError(now.error))
    if table is not None:
        st.fragment(_slider)(run, table, result)
        _download(place, table)
    label = "Make the layered file again" if table is not None else "Make a layered file"
    if st.button(label, icon=":material/layers:", key="make_layered"):
        try:
            permissions.check(runlog.folder(run).budget())
            with st.spinner("Starting…"):
                layered_run.start(place)
        except CompressionError as error:
            widgets.problem(error)
            return
        st.rerun()


def _watch(run: str) -> None:
    now = layered_run.status(runlog.workplace(run))
    if now.state != layered_run.RUNNING:
        st.rerun()
    st.progress(now.share, text=f"{now.text[:1].upper()}{now.text[1:]}…")
    st.caption("Every prefix is measured on all test examples, in a process of its own: you may leave this page.")


def _slider(run: str, table: LayeredTable, result: Mapping[str, Any]) -> None:
    """How much is read, what that scores, and the curve with its table."""
    points, metric = table.prefixes, table.measure
    chosen = len(points) - 1
    if len(points) > 1:
        labels = [f"{words.size(point.bytes)} ({words.share(point.bytes / table.bytes, 0)})" for point in points]
        picked = st.select_slider("How much of the file is read", labels, value=labels[-1], key=f"layered-{run}")
        chosen = labels.index(picked)
    point, final = points[chosen], result["final"]
    widgets.metrics(
        ("Read", words.size(point.bytes), f"of {words.size(table.bytes)}", "Bytes of the file up to this plane."),
        ("Coded bits a weight", f"{point.bits:.2f}", "of the planes alone", "What the planes read take for a weight."),
        (
            f"Test {metric.label}",
            metric.show(point.score),
            f"packed file ({words.size(final['bytes'])}) {metric.show(final['score'])}",
            "Measured with the model that this prefix is.",
        ),
    )
    line = line_of(run, table)
    figure = layered_figure(line, chosen, (final["bytes"], final["score"]))
    widgets.chart(figure, "layered", table.rows, f"{metric.title} against bytes. {' '.join(line.sentences)}")
    st.caption(
        f"{described(table.to_dict())} The last planes take most of the bytes: they are nearly random. A cut between "
        "two of these points can be worse than the point before it."
    )


def _download(place: RunFolder, table: LayeredTable) -> None:
    path = place.bundle / FILE
    st.download_button(
        f"Download the layered file ({words.size(table.bytes)})",
        path.read_bytes,
        file_name=FILE,
        mime="application/octet-stream",
        icon=":material/download:",
        key="layered_file",
        on_click="ignore",
        help=tip("With `load_layered.py` of the bundle, any prefix of it is read without this program."),
    )


def line_of(run: str, table: LayeredTable) -> LayeredLine:
    """A run's prefixes for a chart."""
    budget = runlog.folder(run).budget().to_dict()
    places = tuple((point.bytes, point.score) for point in table.prefixes)
    return LayeredLine(run, str(budget["method"]), names.request(budget), places, table.measure)


def lines(runs: Iterable[str]) -> list[LayeredLine]:
    """The lines of those of these runs that have a layered file; one that cannot be read has none here."""
    result = []
    for run in runs:
        try:
            place = _copied(run)
            table = None if place is None else _stored(str(place.path.resolve()), _changed(place))
            if table is not None:
                result.append(line_of(run, table))
        except CompressionError:
            continue  # the Export page says what is wrong with it
    return result


def _copied(run: str) -> RunFolder | None:
    if gallery.is_gallery(run):
        return library.copied(gallery.find(run), runlog.store().root)
    return runlog.folder(run)


def _changed(place: RunFolder) -> float:
    path = place.bundle / FILE
    return path.stat().st_mtime if path.is_file() else 0.0


@st.cache_data(max_entries=256, show_spinner=False)
def _stored(path: str, changed: float) -> LayeredTable | None:
    return stored(RunFolder(path)) if changed else None
