"""A finished run on its way home: the export as a watched job, and what it measured in rows and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import state, theme, widgets, words
from app.figures import latency as figures
from app.gallery import gallery
from app.runs import permissions, runlog, view_model
from app.terms import tip
from compression import zoo
from compression.errors import CompressionError
from compression.export.findings import rounding_helps, stored, verdicts
from compression.jobs import export_run
from compression.runs.names import model_name
from compression.runs.store import RunInfo

EIGHT = 8


def finished(infos: Sequence[RunInfo]) -> dict[str, str]:
    """Run id → what it is, for the finished runs: the user's, newest first, then the gallery's, whole ones first."""
    own = {info.id: f"{view_model.describe(info.budget)} ({info.id})" for info in infos if _single(info)}
    kept = sorted((e for e in gallery.exhibits() if _single(e.info)), key=lambda exhibit: not exhibit.whole)
    return own | {e.info.id: _kept(e) for e in kept}


def _single(info: RunInfo) -> bool:
    return info.state == "done" and not info.runs


def _kept(exhibit: gallery.Exhibit) -> str:
    only = "" if exhibit.whole else ", figures only"
    method = theme.style(exhibit.info.method).label
    asked = f"{exhibit.info.model} on {exhibit.data}, {view_model.asked(exhibit.info.budget)}"
    return f"Gallery{only}: {method}, {asked} ({exhibit.name})"


def choose(runs: Mapping[str, str], key: str) -> str:
    """The run in the address, the newest where it names none; another can be picked.

    Where the address names a run that is not one of these, one line says why, and none is picked (empty).
    """
    if not state.get("run"):
        state.put("run", next(iter(runs)))
    run = state.get("run") if state.get("run") in runs else ""
    if not run:
        widgets.problem(_unfit(state.get("run")))
    labels = runs if run else {"": "none picked", **runs}
    widgets.choice("Run", labels, run, key, lambda chosen: state.put("run", chosen or state.get("run")))
    return run


def _unfit(run: str) -> CompressionError:
    """Why a run has nothing to be taken home or explained: it is not here, or not finished, or several."""
    try:
        folder = runlog.folder(run)
    except CompressionError as error:
        return error
    if folder.is_sweep:
        return CompressionError(f"run {run} is a sweep: pick one of its runs")
    return CompressionError(f"run {run} is not finished ({widgets.state_words(folder.state)}): pick one that is")


def file_name(run: str) -> str:
    """The name the bundle is downloaded under."""
    return f"{run}.zip"


def make(run: str, told: Mapping[str, Any], again: bool) -> None:
    """The button that starts the export, and channel rounding where that was faster."""
    label = "Make it again" if again else "Make the bundle"
    kind = "secondary" if again else "primary"
    multiple = EIGHT if rounding(run, told) else 1
    if st.button(label, type=kind, icon=":material/inventory_2:", key="make"):  # type: ignore[arg-type]
        try:
            permissions.check(runlog.folder(run).budget())
        except CompressionError as error:
            widgets.problem(error)
            return
        with st.spinner("Starting…"):
            export_run.start(runlog.workplace(run), multiple=multiple)
        st.rerun()


def rounding(run: str, told: Mapping[str, Any]) -> bool:
    """Whether to round channel counts up: asked only where the last export found that it helps, or did it."""
    done = told.get("multiple", 1) > 1
    times = {time["name"]: time for time in told.get("latency", {}).get("variants", ())}
    if not done and not rounding_helps(times):
        return False
    return st.checkbox(
        f"Channel counts at multiples of {EIGHT}",
        value=done,
        key=f"multiple-{run}",
        help=tip(
            "Some removed channels come back as zeros: a little larger, faster on this machine, the same answers."
        ),
    )


def watch(run: str) -> None:
    """Progress while the export goes on; draws the page anew when it has ended."""
    now = export_run.status(runlog.workplace(run))
    if now.state != export_run.RUNNING:
        st.rerun()
    st.progress(now.share, text=f"{now.text[:1].upper()}{now.text[1:]}…")
    st.caption("The export is a process of its own: you may leave this page.")


def download(run: str) -> None:
    """The bundle as a file."""
    path = export_run.bundle_path(runlog.workplace(run))
    st.download_button(
        f"Download the bundle ({words.size(path.stat().st_size)})",
        path.read_bytes,
        file_name=file_name(run),
        mime="application/zip",
        icon=":material/download:",
        type="primary",
        key="bundle",
        on_click="ignore",
    )


def agreement_rows(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """ONNX Runtime beside torch, a row for each file."""
    names = {"onnx": "model.onnx: the run's model as it is", "int8": "model.int8.onnx: 8-bit arithmetic"}
    return [
        {
            "file": name,
            "same class as torch": words.share(told[key]["same"], 2),
            "largest difference of a logit": f"{told[key]['difference']:.1e}",
            "accuracy there": words.share(told[key]["accuracy"], 2),
            "weights": ", ".join(f"{count} × {kind}" for kind, count in told[key]["weights"].items()),
        }
        for key, name in names.items()
        if key in told
    ]


def agreement(told: Mapping[str, Any]) -> None:
    """What could not be written for this network, and how the ONNX files compare with torch."""
    for name, why in told.get("left_out", {}).items():
        st.text(f"The bundle is without {name}: {why}.")
    if "onnx" not in told:
        return
    st.subheader("Does it still answer the same?", anchor=False)
    widgets.table(agreement_rows(told), "agreement")
    for line in stored(told["onnx"]):
        st.markdown(f"- {line}")
    eight = told["int8"]
    st.caption(
        f"ONNX Runtime and torch on the first {told['onnx']['images']} test images (torch: "
        f"{words.share(told['onnx']['torch_accuracy'], 2)} right). The 8-bit file has {eight['calibrated']} quantizers "
        f"the run did not learn; their ranges come from {eight['calibration_images']} training images."
    )


def latency(told: Mapping[str, Any], budget: Mapping[str, Any]) -> None:
    """The times, as a chart with its table, and what they say."""
    if "latency" not in told:
        return
    st.subheader("How fast is it?", anchor=False)
    found, processor = told["latency"]["variants"], told["latency"]["processor"]
    info = figures.latency_info(found, str(budget["method"]))
    widgets.chart(figures.latency_figure(info), "latency", info.table, info.sentence)
    for line in verdicts({time["name"]: time for time in found}, budget):
        st.markdown(f"- {line}")
    flags = ", ".join(processor["flags"]) or "no vector flags known"
    st.caption(
        f"Measured with ONNX Runtime on {processor['name']} ({flags}), {words.plural(processor['threads'], 'thread')}, "
        f"{found[0]['runs']} runs each after warm-up; the line is the middle half of them. BOPs are not milliseconds."
    )


def snippet(run: str, budget: Mapping[str, Any]) -> None:
    """The compressed model in two lines, and the same budget on a model of one's own."""
    from compression.export.apply import applies

    st.subheader("Load it", anchor=False)
    st.code(code(file_name(run), budget, applies(str(budget["method"]))), language="python")
    st.caption(
        "Python finds `compression` where this project's folder is on its path (`PYTHONPATH=folder`) and its packages "
        "are installed. Without this program: unzip, then `python load.py` (torch, numpy, safetensors, constriction). "
        "Neither runs code of the bundle; reading `model.pt2` can, so `python load.py --trust` asks you to say so."
    )


def code(name: str, budget: Mapping[str, Any], applies: bool) -> str:
    """Python that runs as it stands beside the bundle ``name``; with a second part where the budget ``applies``."""
    own, given = "", ""
    network = model_name(budget["model"])
    if zoo.is_file(network):
        file, _, function = network.rpartition(":")
        own, given = (
            f"from {file.removesuffix('.py')} import {function}  # your {file}, beside this\n",
            f", model={function}",
        )
    start = f"import compression as cx\n{own}\n"
    loaded = f"{start}model = cx.load({name!r}{given})  # the slim network, in evaluation mode\n"
    if not applies:
        return loaded
    size = tuple(budget["input"]) if budget.get("input") else None
    built = ", ".join(map(repr, (network, size, budget.get("classes"))))
    lines = [f"dense = cx.zoo.build({built})  # in its place: a trained model of your own"]
    if budget["activation_bits"]:
        example = ", ".join(map(repr, (network, 32, size)))
        lines.append(f"batch = cx.zoo.example({example})  # in its place: a batch of your data")
    more = ", calibration=batch" if budget["activation_bits"] else ""
    lines.append(f"dense = cx.apply(dense, {name!r}{more})  # this run's budget, ready for your training loop")
    return "\n".join([loaded, *lines]) + "\n"


def file_rows(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files of the bundle with their sizes and checksums."""
    return [
        {"file": name, "bytes": about["bytes"], "sha256": about["sha256"]}
        for name, about in told.get("files", {}).items()
    ]
