"""Model: pick a network and data; where parameters and MACs sit; how good the dense weights are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app import names, nav, plain, state, widgets, words
from app.model import catalog, dropped, inputsview, networks, opening, ownweights, preview, trainview
from app.terms import tip
from compression.data import PIXEL
from compression.errors import CompressionError
from compression.plots import model as figures

CHEAP_MACS = 20e6


def pick() -> None:
    """The two choices that every other page follows."""
    with st.spinner("Listing the models…"):
        models = catalog.model_labels()
    datas = catalog.data_labels()
    left, right = st.columns(2)
    with left:
        _choice("Model", "model", models, _model_changed, _models_help(state.get("model")))
    with right:
        _choice("Data", "data", datas, _data_changed, "Size and classes of the data decide the size of the model.")


def _models_help(model: str) -> str:
    typed = f"On a command line this one is {plain.code(model)}."
    return f"The operator's own models first, then the zoo's, torchvision's and others'. Type to search. {typed}"


def _choice(label: str, name: str, labels: dict[str, str], changed: Callable[[str], None], help_text: str) -> None:
    current = state.get(name)
    known = labels if current in labels else {current: current, **labels}
    widgets.choice(label, known, current, f"pick_{name}", changed, help=tip(help_text))


def _model_changed(picked: str) -> None:
    dropped.forget()
    state.put("model", picked)
    with contextlib.suppress(CompressionError):  # the page itself shows the error of a model that cannot be used
        state.put("data", catalog.fitting_data(picked, state.get("data")))


def _data_changed(picked: str) -> None:
    state.put("data", picked)


def summary(subject: catalog.ChosenModel, network: networks.Network, path: Path | None) -> None:
    """The network in a few figures, its score among them when trained weights are at hand."""
    graph, kind = network.graph, subject.kind
    outputs = "channels" if kind is PIXEL else "classes"
    widgets.metrics(
        *score(subject, network, path),
        ("Parameters", words.count(graph.params), "", f"{graph.params:,} numbers"),
        ("Size in fp32", words.size(4 * graph.params), "", "4 bytes for each parameter"),
        (f"MACs per {kind.one}", words.count(graph.macs), "", words.HELP["macs"]),
        ("Input", ", ".join(map(words.shape, graph.inputs)), "", f"{kind.shape}; {subject.classes} {outputs}"),
    )


def score(
    subject: catalog.ChosenModel, network: networks.Network, path: Path | None
) -> list[tuple[str, str, str, str]]:
    """How good the dense weights are on test images; heavy networks wait for a click."""
    if path is None:
        return []
    key, many = f"measure {path}", subject.kind.many
    if network.graph.macs > CHEAP_MACS and not st.session_state.get(key):
        explained = f"Runs the network on {catalog.MEASURED_IMAGES:,} test {many}; takes a few seconds."
        st.session_state[key] = st.button("Measure it", icon=":material/speed:", help=explained)
        if not st.session_state[key]:
            warn(catalog.is_chance(path))
            return []
    try:
        evaluation, metric, images = catalog.measured(subject, path)
    except CompressionError as error:
        widgets.problem(error)
        return []
    warn(bool(evaluation.is_chance))
    measured = f"measured on {images:,} test {many} with {plain.text(path.name)}; loss {evaluation.loss:.3f}"
    explained = f"{metric.explained[:1].upper()}{metric.explained[1:]}, {measured}"
    return [(f"Test {metric.label}", metric.show(evaluation.score), "", explained)]


def warn(chance: bool) -> None:
    """Weights that have learned nothing."""
    if chance:
        st.warning(words.CHANCE, icon=":material/casino:")


def missing(subject: catalog.ChosenModel, path: Path | None) -> None:
    """What this model lacks for a run, and how to get it."""
    if not subject.has_data:
        st.info("No data chosen: pick a data set above to measure and compress this model.", icon=":material/info:")
    elif path is None:
        pair = plain.text(names.subject(subject.model, subject.data))
        st.info(
            f"No trained weights for {pair}, so no score and no runs. Train them here or upload them below; groups and "
            "budgets can be explored without.",
            icon=":material/info:",
        )
        trainview.section(subject)


def where(subject: catalog.ChosenModel, network: networks.Network) -> None:
    """The treemap and the layer table."""
    st.subheader("Parameters and MACs by layer", anchor=False)
    quantity = figures.QUANTITIES.__getitem__
    area = widgets.switch("Area shows", figures.QUANTITIES, "params", "area", format_func=quantity)
    info = figures.tree_info(network.modules, names.model_label(subject.model))
    other = "macs" if area == "params" else "params"
    st.caption(f"Area: {quantity(area)}. Colour: {quantity(other)}. Click a block to enter it.")
    alt = f"Treemap of {names.model_label(subject.model)}: {quantity(area)} per module. The table below holds the same."
    widgets.chart(figures.tree_figure(info, area), "treemap", info.rows, alt)
    st.subheader("Layers", anchor=False)
    rows = networks.layer_rows(network)
    widgets.table(rows, "layers")
    widgets.download(rows, "layers")


def page() -> None:
    """The page from top to bottom."""
    widgets.headline("model", "Pick a network and the data it works on. All other pages follow this choice.")
    pick()
    if dropped.section():
        return
    opened = opening.network()
    if opened is None:
        st.caption("Or choose another model or other data above.")
        return
    subject, network = opened.subject, opened.network
    path = catalog.weights_file(subject) if subject.has_data else None
    summary(subject, network, path)
    missing(subject, path)
    if origin := catalog.origin(subject, path):
        st.caption(f"A run starts from {origin}.")
    ownweights.section(subject)
    if subject.has_data:
        preview.draw(subject)
    with st.container(horizontal=True):
        nav.link("groups", "See which channels go together")
        nav.link("budget", "Choose a budget")
    where(subject, network)
    inputsview.section(subject, path)


page()
