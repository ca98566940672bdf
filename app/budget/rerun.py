"""The budget of a run, once more: as an address of the Budget page, or for another method.

For another method what is asked stays, and what belongs to the first method alone is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from app import nav, state, widgets
from app.budget import budget_upload, draft, method_catalog, permalink
from app.budget.query_params import written
from app.gallery import gallery
from app.model import weightfiles
from app.runs import runlog
from compression.errors import CompressionError

OF_ONE_METHOD = ("options", "schedule", "lr", "lr_quant")


def translated(budget: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The budget with another method. A bit range becomes its middle for an average, an average its whole neighbours.

    Sparsity keeps its number, though it counts units for one method and single weights for another.
    """
    kept = {name: value for name, value in budget.items() if name not in OF_ONE_METHOD}
    if not method_catalog.get(budget["method"]).structured:  # its bits are one number, not a range
        bits = float(budget.get("bits", 4.0))
        kept["weight_bits"] = [math.floor(bits), math.ceil(bits)]
    else:
        low, high = budget.get("weight_bits") or (4, 8)
        kept["bits"] = (low + high) / 2
    return {**kept, "method": method}


def query(budget: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The address of the Budget page with this budget; only model and data where the page cannot take it."""
    try:
        return address(budget)
    except CompressionError:  # of another version, or its weights file is not here: the page opens with its defaults
        return {"model": str(budget.get("model")), "data": str(budget.get("data"))}


def address(budget: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The address that sets up the Budget page with this budget, every control of its method and all bounds.

    It names defaults too, and an empty word where there are no bounds: what was set up before does not shine through.

    Raises:
        CompressionError: the page cannot take it, such as a budget that names a weights file that is not here.
    """
    token = weights_of(budget)
    plain = dict(budget) if token is None else {**budget, "weights": None}
    read = budget_upload.checked(budget_upload.parse(json.dumps(plain).encode()))
    where: dict[str, str | list[str]] = {"model": read.model, "data": read.data}
    if token or state.get("weights"):  # an empty one: back to the trained weights
        where["weights"] = token or ""
    method = method_catalog.get(read.method)
    values = draft.values_of(read, method)
    parts = {name: read.to_dict()[name] for name in ("groups", "layers", "options")}
    where[permalink.NAME] = permalink.pack(read.method, {**parts, "extras": draft.extras_of(read)})
    return where | {name: written(name, values[name]) for name in draft.controls(method, values["activations"])}


def weights_of(budget: Mapping[str, Any]) -> str | None:
    """What the address calls a budget's weights: a token, empty for the trained ones; ``None``: a file not here."""
    named = budget.get("weights")
    return weightfiles.token_of(str(named)) if named else ""


def of_run(run: str) -> dict[str, Any]:
    """The budget of a run as it can be set up here: the gallery's weights files are not here, the trained ones do."""
    budget: dict[str, Any] = dict(runlog.folder(run).spec()["budget"])
    return {**budget, "weights": None} if gallery.is_gallery(run) else budget


def go(budget: Mapping[str, Any], method: str = "") -> None:
    """Leave for the Budget page, set up with this budget (for another ``method``); one line where it cannot be."""
    try:
        query = address(translated(budget, method) if method else budget)
    except CompressionError as error:
        widgets.problem(error)
        return
    nav.go("budget", **query)
