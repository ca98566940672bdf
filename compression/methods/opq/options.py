"""The settings of an allocation: what they may be, and one clear line when they are not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.budget import HIGHEST_BITS
from compression.budget import LOWEST_BITS
from compression.budget import Budget
from compression.budget import check_bits
from compression.budget import check_share
from compression.errors import CompressionError
from compression.methods.opq.pruning import PRUNE_MODES
from compression.methods.opq.tables import LayerTables

Floats = NDArray[np.float64]
Layers = Mapping[str, Mapping[str, Any]]
OPTIONS = ("prune_mode", "scope", "grid", "omega", "skip", "zeros", "tables")
SCOPES = ("network", "layer")
GRIDS = ("plain",)
TABLES = ("exact", "laplace")
OMEGAS = ("equal", "scale", "energy")
ZEROS = ("exact", "rounded")
USUAL_HIGHEST = 8  # bit-width of a layer, unless the average comes near to it


def options(budget: Budget) -> dict[str, Any]:
    """The budget's options as keyword arguments of :func:`compression.methods.opq.allocate`.

    Raises:
        CompressionError: an unknown option.
    """
    for name in budget.options:
        if name not in OPTIONS:
            raise CompressionError(f"opq: unknown option {name!r}; known: {', '.join(OPTIONS)}")
    return dict(budget.options)


def check_settings(
    sparsity: float, bits: float, prune_mode: str, scope: str, grid: str, zeros: str, tables: str
) -> None:
    """Refuse a setting that is none of the known ones, or a number out of range, by name."""
    check_share(sparsity, "sparsity")
    check_bits((bits, HIGHEST_BITS), "bits")
    for name, value, known in (
        ("prune_mode", prune_mode, PRUNE_MODES),
        ("scope", scope, SCOPES),
        ("grid", grid, GRIDS),
        ("zeros", zeros, ZEROS),
        ("tables", tables, TABLES),
    ):
        if value not in known:
            raise CompressionError(f"opq: {name} must be one of {', '.join(known)}, not {value!r}")


def known_layers(layers: Layers, prepared: LayerTables) -> Layers:
    """The bounds of single layers, once every layer they name is known to take part."""
    names = [table.name for table in prepared.layers]
    for name in layers:
        if name not in names:
            raise CompressionError(f"layers: no layer {name!r} takes part; layers: {', '.join(names)}")
    return layers


def omega_values(omega: str | Mapping[str, float], prepared: LayerTables) -> Floats:
    """ω, the weight of each layer's error: fp64 [layers]."""
    if isinstance(omega, Mapping):
        known_layers({name: {} for name in omega}, prepared)
        values = np.array([float(omega.get(table.name, 1.0)) for table in prepared.layers])
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise CompressionError("opq: omega must be a positive number for each layer it names")
        return values
    if omega not in OMEGAS:
        raise CompressionError(f"opq: omega must be one of {', '.join(OMEGAS)} or map layers to numbers, not {omega!r}")
    if omega == "equal":
        return np.ones(len(prepared.layers))
    size = [t.scale**2 if omega == "scale" else float(t.second[-1]) for t in prepared.layers]
    return np.array([1.0 / s if s > 0 else 1.0 for s in size])


def bit_choices(bound: Mapping[str, Any], name: str, bits: float) -> tuple[int, ...]:
    """The bit-widths a layer may get: its own bounds, or 2..8, reaching higher when the average asks for it."""
    if bound.get("weight_bits") is not None:
        check_bits(bound["weight_bits"], f"layers.{name}.weight_bits")
        low, high = bound["weight_bits"]
        return tuple(range(math.ceil(low), math.floor(high) + 1))
    return tuple(range(LOWEST_BITS, min(HIGHEST_BITS, max(USUAL_HIGHEST, math.ceil(bits) + 2)) + 1))
