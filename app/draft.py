"""The budget being made on the Budget page: slider values (in the address), bounds of single groups and layers, extras.

Extras are fields that a loaded budget file sets and no slider shows; they are kept and told about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import catalog
from app import state
from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError

DEFAULTS: dict[str, Any] = {
    "method": "geta",
    "sparsity": 0.5,
    "bits": (4, 8),
    "average_bits": 4.0,
    "activations": False,
    "activation_bits": (8, 8),
    "epochs": 4,
    "seed": 0,
}
_SHOWN = {
    "version",
    "method",
    "model",
    "input",
    "classes",
    "weights",
    "data",
    "sparsity",
    "weight_bits",
    "activation_bits",
    "bits",
}
_SHOWN |= {"groups", "layers", "epochs", "seed"}
OPTION = "option "  # begins the keys of the fields of a method's options
LARGEST_FILE = 1_000_000
HIGHEST_SPARSITY = 0.98


def value(name: str) -> Any:
    """The value of a slider or field."""
    return st.session_state.get(name, DEFAULTS[name])


def bounds() -> dict[str, dict[str, dict[str, Any]]]:
    """Bounds of single groups and layers; another model starts with none."""
    kept = st.session_state.get("bounds")
    if kept is None or kept["model"] != state.get("model"):
        kept = {"model": state.get("model"), "groups": {}, "layers": {}}
        st.session_state["bounds"] = kept
    return kept


def bound(kind: str, name: str, field: str, limits: Any) -> None:
    """Bound one field of a group or layer; ``None`` takes the bound away."""
    entry = bounds()[kind].setdefault(name, {})
    if limits is None:
        entry.pop(field, None)
    else:
        entry[field] = list(limits) if isinstance(limits, (tuple, list)) else limits
    if not entry:
        del bounds()[kind][name]


def clear_bounds() -> None:
    """Leave everything to the method again."""
    st.session_state.pop("bounds", None)
    _forget("bound ")


def extras() -> dict[str, Any]:
    """Fields set by a loaded budget that no slider shows."""
    return dict(st.session_state.get("extras", {}))


def clear_extras() -> None:
    """Back to the defaults for everything no slider shows."""
    st.session_state.pop("extras", None)
    _forget(OPTION)


def options() -> dict[str, Any]:
    """The method's options that were set, here or by a loaded budget."""
    return dict(extras().get("options", {}))


def known_options(method: str) -> dict[str, Any]:
    """The options set that are not another method's own: those wait until it is chosen again."""
    tables = {
        name: {each.name for each in getattr(known, "options", ())} for name, known in methods.all_methods().items()
    }
    own = tables.pop(method, set())
    foreign = set().union(*tables.values()) - own
    return {name: kept for name, kept in options().items() if name not in foreign}


def option(name: str, value: Any) -> None:
    """Set an option of the method; ``None`` leaves it to the method again."""
    chosen = {key: kept for key, kept in options().items() if key != name}
    if value is not None:
        chosen[name] = value
    rest = {key: kept for key, kept in extras().items() if key != "options"}
    st.session_state["extras"] = {**rest, **({"options": chosen} if chosen else {})}


def budget(of: catalog.Subject) -> Budget:
    """The draft as a budget; a method gets only the bounds that mean something to it.

    Raises:
        CompressionError: what cannot be.
    """
    method = value("method") or "geta"
    layers, groups = bounds()["layers"], bounds()["groups"]
    useful = ("sparsity", "weight_bits") if method == "opq" else ("weight_bits", "activation_bits")
    kept = {name: {f: v for f, v in entry.items() if f in useful} for name, entry in layers.items()}
    made = Budget.from_dict(
        {
            **extras(),
            "options": known_options(method),
            "method": method,
            "sparsity": round(value("sparsity"), 4),
            "weight_bits": value("bits"),
            "activation_bits": value("activation_bits") if value("activations") and method != "opq" else None,
            "bits": value("average_bits"),
            "groups": {} if method == "opq" else groups,
            "layers": {name: entry for name, entry in kept.items() if entry},
            "epochs": value("epochs"),
            "seed": value("seed"),
        }
    )
    return of.place(made) if of.has_data else made.replace(model=of.model)


def load(content: bytes) -> None:
    """Take over a budget file that a visitor uploads: model and data must be offered here, files are never named.

    Raises:
        CompressionError: in one line what is wrong; nothing has changed then.
    """
    read = parse(content)
    catalog.allow(read.model, read.data)
    if read.method not in ("geta", "opq"):
        raise CompressionError(f"method {read.method!r} cannot be set up on this page; it takes geta and opq")
    if read.sparsity > HIGHEST_SPARSITY:
        raise CompressionError(f"sparsity {read.sparsity:g} is above {HIGHEST_SPARSITY:g}, the most this page takes")
    state.put("model", read.model)
    state.put("data", read.data)
    plain, default = read.to_dict(), Budget().to_dict()
    st.session_state["extras"] = {k: v for k, v in plain.items() if k not in _SHOWN and v != default[k]}
    st.session_state["bounds"] = {"model": read.model, "groups": plain["groups"], "layers": plain["layers"]}
    _forget("bound ")
    _forget(OPTION)
    values = {
        "method": read.method,
        "sparsity": float(read.sparsity),
        "bits": _whole(read.weight_bits),
        "average_bits": float(read.bits),
        "activations": read.activation_bits is not None,
        "activation_bits": _whole(read.activation_bits or DEFAULTS["activation_bits"]),
        "epochs": read.epochs if isinstance(read.epochs, int) else math.ceil(read.epochs),
        "seed": read.seed,
    }
    st.session_state.update(values)


def parse(content: bytes) -> Budget:
    """A budget from the bytes of an uploaded file.

    Raises:
        CompressionError: too large, no JSON, unknown fields or impossible values, or it names a weights file.
    """
    if len(content) > LARGEST_FILE:
        raise CompressionError("this file is too large for a budget; choose one saved on this page")
    try:
        raw = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CompressionError("this file is not valid JSON; choose a budget saved on this page") from error
    if not isinstance(raw, Mapping):
        raise CompressionError("this file holds no budget: it must be one JSON object")
    try:
        read = Budget.from_dict(raw)
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise CompressionError(
            "this file holds a value of the wrong kind; choose a budget saved on this page"
        ) from error
    if read.weights is not None:
        raise CompressionError(
            "this budget names a weights file; pages use the trained weights of the model, remove the field weights"
        )
    return read


def _whole(limits: tuple[float, float]) -> tuple[int, int]:
    return math.ceil(limits[0]), math.floor(limits[1])


def _forget(prefix: str) -> None:
    for key in [k for k in st.session_state if str(k).startswith(prefix)]:
        del st.session_state[key]
