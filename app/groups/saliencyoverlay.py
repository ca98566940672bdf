"""Saliency as colour on the Groups page: each criterion by itself, and how far the four agree on a group's channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from app import nav
from app.budget import saliencyview
from app.model import catalog, networks
from compression import tasks
from compression.plots import saliency as figures
from compression.plots.overlay import Overlay

AGREEMENT = "agreement of the criteria"
EXPLAINED = {
    "magnitude": "the size of its weights",
    "taylor": "what the loss would change without the channel, to first order",
    "gradient_activation": "gradient × activation of the answer, by Captum",
    "conductance": "the part of the answer that flows through the channel, by Captum",
}

Make = Callable[[Mapping[str, Any]], tuple[Overlay, str]]  # the study's result → an overlay of groups, how to read it


def offered(
    subject: catalog.ChosenModel, network: networks.Network, path: Path | None
) -> dict[str, Callable[[], Overlay | None]]:
    """Name → function that returns the overlay, ``None`` until its study is finished; empty without images."""
    if not subject.has_data or not tasks.attributable(subject.data):
        return {}
    names = {f"saliency: {name.lower()}": criterion for criterion, name in figures.NAMES.items()}
    overlays: dict[str, Make] = {name: partial(_criterion, name, criterion) for name, criterion in names.items()}
    overlays[AGREEMENT] = _agreement
    return {name: partial(_shown, subject, network, path, make) for name, make in overlays.items()}


def _shown(subject: catalog.ChosenModel, network: networks.Network, path: Path | None, make: Make) -> Overlay | None:
    """The overlay with a line on how to read it; without a study its button or progress."""
    results: list[dict[str, Any]] = []
    saliencyview.section(subject, path, results.append)
    if not results:
        return None
    by_group, line = make(results[0])
    st.caption(f"{line} {results[0]['images']} validation images, of the dense model's answer.")
    nav.link("budget", "All criteria side by side", part="Saliency")
    return on_layers(by_group, network)


def on_layers(by_group: Overlay, network: networks.Network) -> Overlay:
    """An overlay of groups as one of the layers that make their channels."""
    values = {layer: by_group.values[g] for layer, g in network.group_of_layer.items() if g in by_group.values}
    return replace(by_group, values=values)


def _criterion(title: str, criterion: str, result: Mapping[str, Any]) -> tuple[Overlay, str]:
    values = figures.saliency_info(result["rows"], result["criteria"]).per_unit(criterion)
    line = f"How much the mean channel of the layer's group matters: {EXPLAINED[criterion]}. 1× is the network's mean."
    return Overlay(title, "×", values, 0.0, max(values.values(), default=1.0)), line


def _agreement(result: Mapping[str, Any]) -> tuple[Overlay, str]:
    from compression.explain.measures import agreement

    correlations = {row["group"]: agreement(list(row["scores"].values())) for row in result["rows"]}
    values = {group: value for group, value in correlations.items() if value is not None}
    line = (
        "Mean rank correlation between the four criteria over the channels of the layer's group. 1: all put them in "
        "the same order. Near 0: which channels go depends on the criterion."
    )
    return Overlay("agreement", "", values, min([0.0, *values.values()]), 1.0), line
