"""A finished run on its way home: the export as a watched job, and its measurements in rows and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app import names, state, theme, widgets, words
from app.gallery import gallery
from app.runs import permissions, runlog
from app.terms import tip
from compression import commands, home, tasks, zoo
from compression.asks import ACTIVATION_BITS_OPTION
from compression.budget import Budget
from compression.errors import CompressionError
from compression.export.findings import rounding_helps, scored, stored, verdicts
from compression.jobs import export_run
from compression.plots import latency as figures
from compression.runs.names import model_name
from compression.runs.store import RunInfo

EIGHT = 8


def finished(infos: Sequence[RunInfo]) -> dict[str, str]:
    """Run id → what it is, for the finished runs: the user's, newest first, then the gallery's, whole ones first."""
    own = {info.id: f"{names.describe(info.budget)} ({info.id})" for info in infos if _single(info)}
    shipped = sorted((e for e in gallery.exhibits() if _single(e.info)), key=lambda exhibit: not exhibit.whole)
    return own | {e.info.id: _shipped(e) for e in shipped}


def _single(info: RunInfo) -> bool:
    return info.state == "done" and not info.runs


def _shipped(exhibit: gallery.Exhibit) -> str:
    only = "" if exhibit.whole else ", figures only"
    method = theme.style(exhibit.info.method).label
    request = f"{gallery.subject(exhibit.info)}, {gallery.request(exhibit)}"
    return f"Gallery{only}: {method}, {request} ({exhibit.name})"


def choose(key: str, nothing: str) -> tuple[str, dict[str, Any]] | None:
    """The finished run in the address, the newest where it names none, and its result; another can be picked.

    Where the address names a run that is not one of these, or has no result, one line says why, and none is picked.
    Where there are none at all, ``nothing`` is shown with the way to a first one.
    """
    runs = finished(runlog.listed())
    if not runs:
        widgets.empty(nothing, "start", "Start a first run")
        return None
    if not state.get("run"):
        state.put("run", next(iter(runs)))
    run = state.get("run") if state.get("run") in runs else ""
    if not run:
        widgets.problem(_unfit(state.get("run")))
    labels = runs if run else {"": "none picked", **runs}
    widgets.choice("Run", labels, run, key, lambda chosen: state.put("run", chosen or state.get("run")))
    result = runlog.outcome(run) if run else None
    if run and result is None:
        widgets.problem(CompressionError(f"run {run} has no result that can be read"))
    return None if result is None else (run, result)


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


def make(run: str, measured: Mapping[str, Any], again: bool, bits: float | None = None) -> None:
    """The button that starts the export, and channel rounding where that was faster; ``bits``: the precision."""
    label = "Make it again" if again else "Make the bundle"
    if again and bits != measured.get("bits"):
        before = "the run's most bits" if measured.get("bits") is None else f"{measured['bits']:.3g} bits a weight"
        st.caption(f"The bundle that is there was made at {before}.")
    kind = "secondary" if again else "primary"
    multiple = EIGHT if rounding(run, measured) else 1
    if st.button(label, type=kind, icon=":material/inventory_2:", key="make"):  # type: ignore[arg-type]
        try:
            permissions.check(runlog.folder(run).budget())
        except CompressionError as error:
            widgets.problem(error)
            return
        with st.spinner("Starting…"):
            export_run.start(runlog.workplace(run), multiple=multiple, bits=bits)
        st.rerun()


def rounding(run: str, measured: Mapping[str, Any]) -> bool:
    """Whether to round channel counts up: offered only where it helped in the last export, or was done there."""
    done = measured.get("multiple", 1) > 1
    times = {time["name"]: time for time in measured.get("latency", {}).get("variants", ())}
    if not done and not rounding_helps(times):
        return False
    return st.checkbox(
        f"Channel counts at multiples of {EIGHT}",
        value=done,
        key=f"multiple-{run}",
        on_change="ignore",
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
    st.caption("The export is a separate process: you may leave this page.")


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


def agreement_rows(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """ONNX Runtime beside torch, a row for each file."""
    titles = {"onnx": "model.onnx: the run's model as it is", "int8": "model.int8.onnx: 8-bit arithmetic"}
    return [
        {
            "file": name,
            **({} if measured[key]["same"] is None else {"same class as torch": words.share(measured[key]["same"], 2)}),
            "largest difference of an output": f"{measured[key]['difference']:.1e}",
            f"{tasks.metric_of(measured[key]).label} there": scored(measured[key]),
            "weights": ", ".join(f"{count} × {kind}" for kind, count in measured[key]["weights"].items()),
        }
        for key, name in titles.items()
        if key in measured
    ]


def agreement(measured: Mapping[str, Any]) -> None:
    """What could not be written for this network, and how the ONNX files compare with torch."""
    for name, why in measured.get("left_out", {}).items():
        st.text(f"The bundle is without {name}: {why}.")
    if "onnx" not in measured:
        return
    st.subheader("Does it still answer the same?", anchor=False)
    widgets.table(agreement_rows(measured), "agreement")
    for line in stored(measured["onnx"]):
        st.markdown(f"- {line}")
    whole, eight = measured["onnx"], measured["int8"]
    st.caption(
        f"ONNX Runtime and torch on the first {whole['images']} test examples (torch: "
        f"{scored(whole, 'torch_')}). The 8-bit file has {eight['calibrated']} quantizers "
        f"the run did not learn; their ranges come from {eight['calibration_images']} training images."
    )


def latency(measured: Mapping[str, Any], method: str) -> None:
    """The times, as a chart with its table, and what follows from them."""
    if "latency" not in measured:
        return
    st.subheader("How fast is it?", anchor=False)
    variants, processor = measured["latency"]["variants"], measured["latency"]["processor"]
    info = figures.latency_info(variants, method)
    widgets.chart(figures.latency_figure(info), "latency", info.table, info.sentence)
    for line in verdicts({time["name"]: time for time in variants}, {"method": method}):
        st.markdown(f"- {line}")
    runs = variants[0]["runs"]
    flags = ", ".join(processor["flags"]) or "no vector flags known"
    st.caption(
        f"Measured with ONNX Runtime on {processor['name']} ({flags}), {words.plural(processor['threads'], 'thread')}, "
        f"{runs} runs each after warm-up; the line is the middle half of them. BOPs are not milliseconds."
    )


def snippet(run: str, budget: Budget) -> None:
    """The compressed model in two lines, the same budget on a model of one's own, and the way to publish it."""
    st.subheader("Load it", anchor=False)
    st.code(code(file_name(run), budget), language="python")
    st.caption(
        "Python finds `compression` where this project's folder is on its path (`PYTHONPATH=folder`) and its packages "
        "are installed. Without this program: unzip, then `python load.py` (torch, numpy, safetensors, constriction). "
        "Neither runs code of the bundle; reading `model.pt2` can, so it needs `python load.py --trust`."
    )
    st.caption("As a model repository on the Hugging Face Hub, with its card, for others to load in one line:")
    push = commands.line("push", file_name(run), "--to", "OWNER/NAME", python=commands.interpreter())
    st.code(push, language="bash")


def code(name: str, budget: Budget) -> str:
    """Python that runs as it is beside the bundle ``name``; then the same budget on another model.

    That is ``cx.apply`` where the method can prepare a model, else, for one that only runs as a whole, its command.
    """
    from compression import methods
    from compression.methods import Method

    method = methods.get(budget.method)
    network = model_name(budget.model)
    own, model = "", ""
    if zoo.is_file(network):
        file, _, function = network.rpartition(":")
        own = f"from {file.removesuffix('.py')} import {function}  # your {file}, beside this\n"
        model = f", model={function}"
    load = f"model = cx.load({name!r}{model})  # the slim network, in evaluation mode"
    loaded = f"import {home.PACKAGE} as cx\n{own}\n{load}\n"
    if type(method).prepare is Method.prepare:
        values = {"method": method.info.name, "model": network, "data": Path(budget.data).name}
        words_of = [word for option, value in values.items() for word in commands.option(option, value)]
        return f"{loaded}\n# This method runs as a whole:\n# {home.PROGRAM} run {' '.join(words_of)}\n"
    built = ", ".join(map(repr, (network, budget.input, budget.classes)))
    lines = [f"dense = cx.zoo.build({built})  # in its place: a trained model of your own"]
    activations = method.ask(ACTIVATION_BITS_OPTION)
    more = ""
    if activations is not None and activations.value(budget.asks) is not None:
        example = ", ".join(map(repr, (network, 32, budget.input)))
        lines.append(f"batch = cx.zoo.example({example})  # in its place: a batch of your data")
        more = ", calibration=batch"
    lines.append(f"dense = cx.apply(dense, {name!r}{more})  # this run's budget, ready for your training loop")
    return "\n".join([loaded, *lines]) + "\n"


def file_rows(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files of the bundle with their sizes and checksums."""
    return [
        {"file": name, "bytes": about["bytes"], "sha256": about["sha256"]}
        for name, about in measured.get("files", {}).items()
    ]
