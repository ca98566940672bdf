"""What a session begins on where the operator brought a model: that model, on data that may suit it."""

from __future__ import annotations

import streamlit as st

from app import options, state
from app.model import catalog
from compression.errors import CompressionError

_TAKEN = "first_choice_taken"


def take() -> None:
    """Once a session, before the address is read: the operator's first model where the address names no model.

    The data are those of the address, else the only task or folder that fits, else none.
    """
    given = options.read()
    if _TAKEN in st.session_state or not given.models:
        return
    st.session_state[_TAKEN] = True
    if st.query_params.get("model") or st.query_params.get("run"):
        return
    state.put("model", given.models[0])
    if not st.query_params.get("data"):
        state.put("data", _data(given))


def _data(given: options.ServerOptions) -> str:
    """The data for the first model, which is read (its code runs) only where there are several to choose among."""
    offered = options.offered(given)
    if len(offered) <= 1:
        return offered[0] if offered else catalog.NO_DATA
    try:
        return catalog.fitting_data(given.models[0], catalog.NO_DATA)
    except CompressionError:  # the Model page says what is wrong with the model
        return catalog.NO_DATA
