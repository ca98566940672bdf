"""The network that a page is about, from the address; an error is shown with the ways out as buttons."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from app import names, plain, state, widgets
from app.model import catalog, networks, ownweights
from compression.errors import CompressionError


@dataclass(frozen=True, eq=False)
class Opened:
    """The model and data of the address, and the traced network."""

    subject: catalog.ChosenModel
    network: networks.Network


def network() -> Opened | None:
    """The model and data in the address, traced; ``None`` when they cannot be, which is drawn then."""
    try:
        subject = catalog.subject(state.get("model"), state.get("data"), state.get("weights"))
        traced = catalog.traced(subject)
    except CompressionError as error:
        widgets.problem(error)
    else:
        ownweights.missing(subject)
        _unknown_group(traced)
        return Opened(subject, traced)
    model, data = state.get("model"), state.get("data")
    with st.container(horizontal=True, key="ways_out"):
        for pair, label in ways_out(model, data).items():
            st.button(label, key=f"open {' '.join(pair)}", icon=":material/undo:", on_click=_choose, args=pair)
    return None


def _unknown_group(traced: networks.Network) -> None:
    """One line where the address names a group that this network does not have; it is forgotten."""
    group = state.get("group")
    if group and group not in [each.id for each in traced.graph.groups]:
        state.put("group", "")
        widgets.problem(CompressionError(f"no group {group!r} in {names.model_label(state.get('model'))}"))


def ways_out(model: str, data: str) -> Mapping[tuple[str, str], str]:
    """(model, data) → what its button says: the model on data that suit it if there is such a model, and the default.

    Only pairs that this app can open are offered.
    """
    default = (state.DEFAULTS["model"], state.DEFAULTS["data"])
    fitting: tuple[str, ...] = (catalog.NO_DATA,)
    with contextlib.suppress(CompressionError):  # a model that is not known suits no data
        fitting = (catalog.fitting_data(model, data), *fitting)
    pairs = dict.fromkeys([*((model, fit) for fit in fitting if fit != data), default])
    return {pair: _label(*pair) for pair in pairs if pair != (model, data) and _opens(*pair)}


def _opens(model: str, data: str) -> bool:
    try:
        catalog.traced(catalog.subject(model, data))
    except CompressionError:
        return False  # the error of the choice itself has been shown
    return True


def _label(model: str, data: str) -> str:
    where = "without data" if data == catalog.NO_DATA else f"on {names.data_label(data)}"
    return plain.text(f"Open {names.model_label(model)} {where}")


def _choose(model: str, data: str) -> None:
    state.put("model", model)
    state.put("data", data)
