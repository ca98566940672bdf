"""The budget of a run, once more: as an address of the Budget page, as it is or for another method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from app import nav, state, widgets
from app.budget import budget_upload, permalink
from app.model import catalog, weightfiles
from app.runs import runlog
from compression import methods
from compression.errors import CompressionError

Query = dict[str, str | list[str]]


def query(budget: Mapping[str, Any]) -> Query:
    """The address of the Budget page with this budget; only model and data where the page cannot take it."""
    try:
        return address(budget)
    except CompressionError:  # of another version, or its weights file is not here: the page opens with its defaults
        return {"model": str(budget.get("model")), "data": str(budget.get("data"))}


def address(budget: Mapping[str, Any], method: str = "") -> Query:
    """The address that sets up the Budget page with this budget, converted where another ``method`` is named.

    Raises:
        CompressionError: the page cannot take it, such as a budget that names a weights file that is not here.
    """
    named = budget.get("weights")
    token = weightfiles.token_of(str(named)) if named else ""
    plain = dict(budget) if token is None else {**budget, "weights": None}
    requested = budget_upload.parse(json.dumps(plain).encode())
    if method:
        requested = methods.get(method).convert(requested, methods.get(requested.method))
    catalog.allow(requested.model, requested.data)
    word = permalink.pack(budget_upload.check_shown(requested))
    weights = {"weights": token or ""} if token or state.get("weights") else {}  # empty: back to the trained ones
    return {"model": requested.model, "data": requested.data, **weights, permalink.NAME: word}


def of_run(run: str) -> dict[str, Any]:
    """The budget of a run as it can be set up here: the gallery's weights files are not here, the trained ones do."""
    budget: dict[str, Any] = dict(runlog.folder(run).spec()["budget"])
    return {**budget, "weights": None} if runlog.is_gallery(run) else budget


def go(budget: Mapping[str, Any], method: str = "") -> None:
    """Leave for the Budget page, set up with this budget (for another ``method``); one line where it cannot be."""
    try:
        query = address(budget, method)
    except CompressionError as error:
        widgets.problem(error)
        return
    nav.go("budget", **query)
