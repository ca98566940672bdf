"""The budget of a run, once more: as an address of the Budget page, or for another method.

For another method what is asked stays, and what belongs to the first method alone is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from app import state
from app import theme
from app.budget import carried
from app.budget import draft
from app.budget import offer
from app.budget import uploaded
from app.model import weightfiles
from compression.budget import Budget
from compression.errors import CompressionError

OF_ONE_METHOD = ("options", "schedule", "lr", "lr_quant")


def translated(budget: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The budget with another method. A bit range becomes its middle for an average, an average its whole neighbours.

    Sparsity keeps its number, though it counts units for one method and single weights for another.
    """
    kept = {name: value for name, value in budget.items() if name not in OF_ONE_METHOD}
    if not offer.get(budget["method"]).structured:  # its bits are one number, not a range
        bits = float(budget.get("bits", 4.0))
        kept["weight_bits"] = [math.floor(bits), math.ceil(bits)]
    else:
        low, high = budget.get("weight_bits") or (4, 8)
        kept["bits"] = (low + high) / 2
    return {**kept, "method": method}


def query(budget: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The address of the Budget page with this budget; only model and data where its weights file is not here."""
    where: dict[str, str | list[str]] = {"model": str(budget.get("model")), "data": str(budget.get("data"))}
    try:
        read = Budget.from_dict(budget)
        values = _followed(read)
    except CompressionError:  # of another version: the page opens with its defaults
        return where
    token = weights_of(budget)
    if token is None:
        return where
    if token or state.get("weights"):  # an empty one: back to the trained weights
        where["weights"] = token
    values["method"] = theme.style(read.method).label
    plain = read.to_dict()
    parts = {"groups": plain["groups"], "layers": plain["layers"], "options": plain["options"]}
    if word := carried.pack(read.method, {**parts, "extras": draft.extras_of(read)}):
        where[carried.NAME] = word
    return where | {name: _said(value) for name, value in values.items()}


def weights_of(budget: Mapping[str, Any]) -> str | None:
    """What the address calls a budget's weights: a token, empty for the trained ones; ``None``: a file not here."""
    named = budget.get("weights")
    return weightfiles.token_of(str(named)) if named else ""


def _followed(read: Budget) -> dict[str, Any]:
    """The sliders' values, without those that the budget's method has no slider for."""
    method = offer.get(read.method)
    widths = {"range": "bits", "average": "average_bits", "equal": "equal_bits"}
    unused = {key for kind, key in widths.items() if kind != method.uses.bits}
    acts = {"activation_bits", "equal_activation_bits"}
    if method.uses.activations and read.activation_bits is not None:
        acts.discard("equal_activation_bits" if method.uses.bits == "equal" else "activation_bits")
    unused |= acts if method.uses.activations else {*acts, "activations"}
    return {name: value for name, value in draft.values_of(read, method).items() if name not in unused}


def _said(value: Any) -> str | list[str]:
    if isinstance(value, tuple):
        return [str(end) for end in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def prepare(budget: Mapping[str, Any], method: str) -> None:
    """Set up the Budget page with the same budget for this method.

    Raises:
        CompressionError: the page cannot take it, such as a budget that names a weights file that is not here.
    """
    _load(translated(budget, method), weights_of(budget))


def same(budget: Mapping[str, Any]) -> None:
    """Set up the Budget page with this very budget, from the weights that are here: to repeat a run of somebody else's.

    Raises:
        CompressionError: the page cannot take it.
    """
    _load({**budget, "weights": None}, "")


def _load(budget: Mapping[str, Any], token: str | None) -> None:
    """Take the budget over with uploaded weights, the trained ones (an empty token), or as it names them (``None``)."""
    plain = budget if token is None else {**budget, "weights": None}
    uploaded.load(json.dumps(plain).encode())
    state.put("weights", token or "")
