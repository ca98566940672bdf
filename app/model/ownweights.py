"""Weights of one's own on the Model page: upload them, see whose they are, go back to the trained ones."""

from __future__ import annotations

import dataclasses

import streamlit as st

from app import names, plain, state, widgets
from app.model import catalog, weightfiles
from app.terms import tip
from compression.errors import CompressionError
from compression.zoo.content import ENDINGS

REFUSED = "weights_problem"


def section(subject: catalog.ChosenModel) -> None:
    """The upload, and what of it is in use; a link whose weights are not here says so."""
    missing(subject)
    with st.expander("Weights of your own", icon=":material/upload_file:", expanded=bool(subject.weights)):
        if subject.weights:
            st.markdown(f"All pages and new runs use the weights you uploaded ({plain.code(subject.weights)}).")
            trained = catalog.weights_file(dataclasses.replace(subject, weights="")) is not None
            label = "Use the trained weights again" if trained else "Stop using these weights"
            st.button(label, key="trained_weights", on_click=lambda: state.put("weights", ""))
        st.file_uploader(
            f"Trained weights of {plain.text(names.model_label(subject.model))}: safetensors, or a torch file",
            type=[ending.removeprefix(".") for ending in ENDINGS],
            max_upload_size=500,  # MB
            key="weights_upload",
            on_change=_uploaded,
            args=(subject,),
            help=tip(
                "A file with the parameters by their names in this model, such as `safetensors.torch.save_model` or "
                "`torch.save(model.state_dict(), …)` writes. It is read as plain numbers, never executed, checked, and "
                "stored on this machine for the runs that start from it."
            ),
        )
        if problem := st.session_state.pop(REFUSED, None):
            widgets.problem(problem)


def missing(subject: catalog.ChosenModel) -> None:
    """One line where the address names weights that are not here, or not this model's; they are forgotten."""
    named = state.get("weights")
    if named and not subject.weights:
        state.put("weights", "")
        widgets.problem(
            CompressionError(
                f"the weights that this link names ({named[: weightfiles.DIGITS]}) were not uploaded here or do not "
                f"fit {names.model_label(subject.model)}; the page goes on with the trained ones"
            )
        )


def _uploaded(subject: catalog.ChosenModel) -> None:
    file = st.session_state.get("weights_upload")
    if file is None:
        return
    try:
        size = (subject.model, subject.input, subject.classes)
        state.put("weights", weightfiles.keep(file.getvalue(), *size, file.name))
    except CompressionError as error:
        st.session_state[REFUSED] = error
