"""The budget being made on the Budget page: slider values (in the address), bounds of single groups and layers, extras.

Extras are fields that a loaded budget file sets and no slider shows; they are kept and told about.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import state, theme
from app.budget import method_catalog
from app.model import catalog
from compression.budget import Budget

if TYPE_CHECKING:
    from compression.methods import Method
    from compression.methods.base import Uses

DEFAULTS: dict[str, Any] = {
    "method": "geta",
    "sparsity": 0.5,
    "bits": (4, 8),
    "average_bits": 4.0,
    "equal_bits": 4,
    "activations": False,
    "activation_bits": (8, 8),
    "equal_activation_bits": 8,
    "epochs": 4.0,
    "seed": 0,
}
SHOWN = {
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
SHOWN |= {"groups", "layers", "epochs", "seed", "options"}
OPTION = "option "  # begins the keys of the fields of a method's options
HIGHEST_SPARSITY = 0.98
FEWEST_EPOCHS, MOST_EPOCHS = 0.01, 1000.0
LARGEST_SEED = 2**53 - 1  # what a browser counts exactly


def value(name: str) -> Any:
    """The value of a slider or field."""
    return st.session_state.get(name, DEFAULTS[name])


def controls(method: Method, activations: bool) -> tuple[str, ...]:
    """The sliders and fields that the form shows for a method; ``activations``: are these quantized too?"""
    uses = method.uses
    names = ["method"]
    names += ["sparsity"] if uses.sparsity else []
    names += [{"range": "bits", "average": "average_bits", "equal": "equal_bits"}[uses.bits]]
    if uses.activations:
        names += ["activations"]
        names += ["equal_activation_bits" if uses.bits == "equal" else "activation_bits"] if activations else []
    names += ["epochs", "seed"] if uses.training else []
    return tuple(names)


def shown() -> dict[str, Any]:
    """Every control of the form as it stands, with its value."""
    names = controls(method_catalog.get(value("method") or DEFAULTS["method"]), bool(value("activations")))
    return {name: value(name) for name in names}


def in_words(name: str) -> str:
    """The default of a slider or field, as a sentence names it."""
    default = DEFAULTS[name]
    if isinstance(default, tuple):
        return f"{default[0]} to {default[1]}"
    if isinstance(default, bool):
        return str(default).lower()
    return theme.style(default).label if name == "method" else f"{default:g}"


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


def put_bounds(read: Budget) -> None:
    """Take over the bounds of a budget, and nothing else of it."""
    plain = read.to_dict()
    st.session_state["bounds"] = {"model": state.get("model"), "groups": plain["groups"], "layers": plain["layers"]}
    _forget("bound ")


def clear_bounds() -> None:
    """Leave everything to the method again."""
    st.session_state.pop("bounds", None)
    _forget("bound ")


def extras() -> dict[str, Any]:
    """Fields set by a loaded budget that no slider shows."""
    return dict(st.session_state.get("extras", {}))


def clear_extras() -> None:
    """Back to the defaults for everything no slider shows, and for the options of all methods."""
    st.session_state.pop("extras", None)
    st.session_state.pop("options", None)
    _forget(OPTION)


def options(method: str) -> dict[str, Any]:
    """The options of a method that were set, here or by a loaded budget; those of others wait for their method."""
    return dict(st.session_state.get("options", {}).get(method, {}))


def option(method: str, name: str, value: Any) -> None:
    """Set an option of a method; ``None`` leaves it to the method again."""
    chosen = {key: kept for key, kept in options(method).items() if key != name}
    if value is not None:
        chosen[name] = value
    st.session_state["options"] = {**st.session_state.get("options", {}), method: chosen}


def option_key(method: str, name: str) -> str:
    """Under which key the form keeps an option."""
    return f"{OPTION}{method} {name}"


def budget(of: catalog.Subject) -> Budget:
    """The draft as a budget; a method gets only the bounds that mean something to it.

    What the form does not show has its default, so that the budget is a function of what can be seen.

    Raises:
        CompressionError: what cannot be.
    """
    method = method_catalog.get(value("method") or DEFAULTS["method"])
    now = DEFAULTS | shown()
    equal = (now["equal_bits"], now["equal_bits"]) if method.uses.bits == "equal" else None
    epochs = float(now["epochs"])
    made = Budget.from_dict(
        {
            **extras(),
            "method": method.name,
            "sparsity": round(now["sparsity"], 6) if method.uses.sparsity else 0.0,
            "weight_bits": equal or now["bits"],
            "activation_bits": _activations(method.uses),
            "bits": float(equal[0]) if equal else now["average_bits"],
            "groups": bounds()["groups"] if method.structured else {},
            "layers": _layers(method),
            "epochs": int(epochs) if epochs.is_integer() else epochs,
            "seed": now["seed"],
            "options": options(method.name),
        }
    )
    return of.place(made) if of.has_data else made.replace(model=of.model)


def _activations(uses: Uses) -> tuple[float, float] | None:
    if not (uses.activations and value("activations")):
        return None
    one = value("equal_activation_bits")
    limits: tuple[float, float] = (one, one) if uses.bits == "equal" else value("activation_bits")
    return limits


def _layers(method: Method) -> dict[str, dict[str, Any]]:
    """The bounds of single layers that mean something to the method as things are set."""
    useful = ["weight_bits"]
    useful += ["sparsity"] if method.uses.sparsity and not method.structured else []
    useful += ["activation_bits"] if _activations(method.uses) else []
    kept = {name: {f: v for f, v in entry.items() if f in useful} for name, entry in bounds()["layers"].items()}
    return {name: entry for name, entry in kept.items() if entry}


def take(read: Budget) -> None:
    """Make this budget the draft: bounds, options, extras and every slider; model and data stay."""
    plain = read.to_dict()
    put_parts(read.method, plain["groups"], plain["layers"], plain["options"], extras_of(read))
    st.session_state.update(values_of(read, method_catalog.get(read.method)))


def extras_of(read: Budget) -> dict[str, Any]:
    """The fields of a budget that no slider shows and that are not at their defaults."""
    default = Budget().to_dict()
    return {k: v for k, v in read.to_dict().items() if k not in SHOWN and v != default.get(k)}


def put_parts(
    method: str, groups: dict[str, Any], layers: dict[str, Any], options: dict[str, Any], extras: dict[str, Any]
) -> None:
    """Replace what no slider of the left column shows."""
    st.session_state["bounds"] = {"model": state.get("model"), "groups": groups, "layers": layers}
    st.session_state["extras"] = extras
    st.session_state["options"] = {**st.session_state.get("options", {}), method: options}
    _forget("bound ")
    _forget(OPTION)


def values_of(read: Budget, method: Method) -> dict[str, Any]:
    """The sliders' values for a loaded budget; what the method does not use stays as it is."""
    from compression.methods.widths import equal_bits

    values = {
        "method": read.method,
        "sparsity": float(read.sparsity),
        "bits": _whole(read.weight_bits),
        "average_bits": float(read.bits),
        "activations": read.activation_bits is not None,
        "activation_bits": _whole(read.activation_bits or DEFAULTS["activation_bits"]),
        "equal_activation_bits": _whole(read.activation_bits or DEFAULTS["activation_bits"])[1],
        "equal_bits": equal_bits(read, method.structured),
        "epochs": float(read.epochs),
        "seed": read.seed,
    }
    if not method.uses.sparsity:
        del values["sparsity"]
    return values


def _whole(limits: tuple[float, float]) -> tuple[int, int]:
    return math.ceil(limits[0]), math.floor(limits[1])


def _forget(prefix: str) -> None:
    for key in [k for k in st.session_state if str(k).startswith(prefix)]:
        del st.session_state[key]
