"""The questions of the budget: method, sparsity, bits, options, training; every answer is in the address."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from app import plain, theme, words
from app.budget import draft, method_catalog, options_form, presets, query_params, sparsity
from app.model import networks
from app.terms import tip
from compression.bounds import HIGHEST_BITS, LOWEST_BITS

HIGHEST_AVERAGE = float(HIGHEST_BITS)


def sliders(found: networks.Network) -> None:
    """The questions of the budget, for this network."""
    st.pills(
        "Method",
        method_catalog.names(),
        key="method",
        default="geta",
        required=True,
        bind="query-params",
        on_change=query_params.moved,
        args=("method",),
        wrap=True,
        format_func=lambda name: theme.style(name).label,
    )
    method = method_catalog.get(draft.value("method") or "geta")
    st.caption(method_catalog.sentence(method.name))
    presets.buttons(method.name)
    if method.uses.sparsity:
        sparsity.slider(found, method.structured)
    _weight_bits(method.uses.bits)
    if method.uses.activations:
        help_text = words.HELP["activation_bits"]
        st.toggle("Quantize activations too", key="activations", help=tip(help_text), **_bound("activations"))
        if draft.value("activations"):
            _activation_bits(method.uses.bits)
    options_form.fields(method.name)
    if method.uses.training:
        _training()
    else:
        st.caption("Nothing is trained: no epochs to choose.")


def _weight_bits(kind: str) -> None:
    if kind == "range":
        _slider("Bits of the weights, from … to", "bits", LOWEST_BITS, HIGHEST_BITS, 1, None, "weight_bits")
    elif kind == "average":
        label = "Average bits per surviving weight"
        _slider(label, "average_bits", float(LOWEST_BITS), HIGHEST_AVERAGE, 0.25, "%.2f", "bits")
    else:
        _slider("Bits of every layer's weights", "equal_bits", LOWEST_BITS, HIGHEST_BITS, 1, None, "equal_bits")


def _activation_bits(kind: str) -> None:
    key = "equal_activation_bits" if kind == "equal" else "activation_bits"
    label = "Bits of all activations" if kind == "equal" else "Bits of the activations, from … to"
    _slider(label, key, LOWEST_BITS, HIGHEST_BITS, 1, None, key)


def _slider(label: str, key: str, low: Any, high: Any, step: Any, form: str | None, term: str) -> None:
    explained = words.HELP[term]
    st.slider(label, low, high, draft.DEFAULTS[key], step, form, key=key, help=tip(explained), **_bound(key))


def _bound(key: str) -> dict[str, Any]:
    """A control that stands in the address."""
    return {"bind": "query-params", "on_change": query_params.moved, "args": (key,)}


def _training() -> None:
    """How long to train, and from which seed."""
    extras = draft.extras()
    with st.expander("Training", icon=":material/model_training:", expanded=bool(extras)):
        explained = "Passes over the training data. More gives accuracy, and takes longer."
        epochs, seed = draft.DEFAULTS["epochs"], draft.DEFAULTS["seed"]
        limits = (draft.FEWEST_EPOCHS, draft.MOST_EPOCHS)
        st.number_input("Epochs", *limits, epochs, 1.0, "%g", key="epochs", help=tip(explained), **_bound("epochs"))
        explained = "The same seed gives the same run."
        limits = (-draft.LARGEST_SEED, draft.LARGEST_SEED)
        bound = {**_bound("seed"), "bind": query_params.binding("seed")}
        st.number_input("Seed", *limits, seed, key="seed", help=tip(explained), **bound)
        if extras:
            st.caption(f"Set besides the fields: {plain.code(json.dumps(extras))}")
            st.button("Back to defaults", on_click=draft.clear_extras)
