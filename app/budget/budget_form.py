"""The form of the budget: its method, what the method asks, its options and the training."""

from __future__ import annotations

import json

import streamlit as st

from app import explained, plain
from app.budget import controls, draft, options_form, presets, sparsity
from app.model import networks
from app.terms import tip
from compression import methods
from compression.asks import Ask, Sparsity
from compression.bounds import HIGHEST_RATE
from compression.budget import OPTIMIZERS, Budget


def draw(network: networks.Network) -> None:
    """Every control of the draft's method, for this network."""
    st.pills(
        "Method",
        methods.names(),
        default=controls.seed("method", draft.get().method),
        key="method",
        required=True,
        on_change=controls.moved,
        args=(draft.choose_method, "method"),
        wrap=True,
        format_func=lambda name: methods.get(name).info.label,
    )
    controls.problem()
    method = draft.method()
    st.caption(method.info.sentence)
    explained.sources(method.info.name)
    presets.buttons(method)
    alternatives = [ask for ask in method.asks if ask.excludes]
    if alternatives:
        _amount(controls.one_of(alternatives), network)
    for ask in method.asks:
        if ask not in alternatives:
            _amount(ask, network)
    options_form.fields(method)
    if method.trains(draft.get()):
        _training()
    else:
        st.caption("Nothing is trained: no epochs to choose.")
    _extras()


def _amount(ask: Ask, network: networks.Network) -> None:
    """The control of one ask; shares are percentages."""
    if isinstance(ask, Sparsity):
        sparsity.slider(network, ask)
    else:
        controls.draw(ask, draft.get().asks, form="percent" if ask.excludes else None, switch=not ask.excludes)


def _training() -> None:
    """How long to train, how fast, and from which seed."""
    now = draft.get()
    with st.expander("Training", icon=":material/model_training:", expanded=now.lr is not None):
        explained = "Passes over the training data. More gives a better score, and takes longer."
        controls.number("Epochs", "epochs", now.epochs, draft.FEWEST_EPOCHS, draft.MOST_EPOCHS, explained)
        limits = (-draft.LARGEST_SEED, draft.LARGEST_SEED)
        controls.number("Seed", "seed", now.seed, *limits, "The same seed gives the same run.")
        _optimizer(now)


def _optimizer(now: Budget) -> None:
    """What the training steps are made with; an empty learning rate leaves it to the method."""
    controls.seed("lr", now.lr)  # without a default, it can be emptied again
    st.number_input(
        "Learning rate", 0.0, HIGHEST_RATE, None, 0.01, format="%g", key="lr",
        placeholder=f"the method's own, for {now.optimizer}", on_change=controls.moved,
        args=(lambda value: draft.change(lr=value), "lr"),
        help=tip("The first learning rate of the training; empty: the method's own for this optimizer."),
    )  # fmt: skip
    explained = "Examples in each training step. More is steadier, and needs more memory."
    controls.number("Batch size", "batch_size", now.batch_size, 1, draft.LARGEST_BATCH, explained)
    st.selectbox(
        "Optimizer", OPTIMIZERS, index=OPTIMIZERS.index(controls.seed("optimizer", now.optimizer)), key="optimizer",
        on_change=controls.moved, args=(lambda value: draft.change(optimizer=value), "optimizer"),
        help=tip("What turns gradients into steps. Networks without batch norms train better with adam or adamw."),
    )  # fmt: skip


def _extras() -> None:
    """What a loaded budget set that no control shows."""
    if extras := draft.extras(draft.get()):
        st.caption(f"Set besides the fields: {plain.code(json.dumps(extras))}")
        st.button("Back to defaults", on_click=draft.clear_extras)
