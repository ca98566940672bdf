"""Algorithm P: how many weights each layer loses, so that exactly K of N are zero.

Within a layer the smallest magnitudes are removed. Across layers the error Σ ω_i Σ w² is separable and convex in the
counts, so one threshold on √ω_i·|w| is optimal: the Laplace model gives it in closed form (up to one root), the sorted
weights exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from compression.bounds import check_share
from compression.quant.allocation import Allocation
from compression.quant.nearest import equal_bits
from compression.quant.tables import LayerTable, LayerTables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PRUNE_MODES = ("laplace", "empirical", "uniform")
SCOPES = {"network": "empirical", "layer": "uniform"}
"""Where magnitudes are compared → the mode in which layers share what is lost."""
KEPT_SHARE = 0.02  # of each layer's weights that remain, so that no layer is cut off


@dataclass(frozen=True)
class WeightLimits:
    """How few and how many weights each layer may lose, both int64 [layers]."""

    floors: Ints
    caps: Ints

    def clamp(self, count: int) -> int:
        """The nearest count that the limits allow."""
        return int(min(max(count, self.floors.sum()), self.caps.sum()))


def limits(tables: LayerTables, sparsity: float, fixed: dict[str, float]) -> WeightLimits:
    """The limits of each layer: weights that are 0 already count as pruned, and a share of each layer remains.

    ``fixed`` maps a layer to the sparsity the user set for it. The share that remains is 2 %, less when the requested
    sparsity leaves less than 4 %; at least one weight of a layer remains unless all of it is 0 already.
    """
    remaining = min(KEPT_SHARE, (1.0 - sparsity) / 2)
    floors, caps = [], []
    for layer in tables.layers:
        zeros, most = layer.zeros, layer.size - max(1, int(np.ceil(remaining * layer.size)))
        if layer.name in fixed:
            most = min(round(fixed[layer.name] * layer.size), layer.size - 1)
        floors.append(max(zeros, most) if layer.name in fixed else zeros)
        caps.append(max(zeros, most))
    return WeightLimits(np.array(floors, dtype=np.int64), np.array(caps, dtype=np.int64))


def requested_counts(
    tables: LayerTables,
    sparsity: float,
    layers: Mapping[str, Mapping[str, Any]],
    mode: str,
    omega: Floats,
    rounds: tuple[int, int] = (1, 1),
) -> tuple[Ints, tuple[str, ...]]:
    """How many weights each layer loses, int64 [layers], and notes on where ``sparsity`` cannot be reached exactly.

    ``layers`` may bound the sparsity of single layers; for ``mode`` and ``omega`` see :func:`pruned_counts`.
    ``rounds`` (r, R): after r of R rounds, ⌊r K / R⌋ of the K weights of the last one; bounds of layers rise alike.

    Raises:
        CompressionError: a sparsity of a layer outside [0, 1).
    """
    fixed = {name: bound["sparsity"] for name, bound in layers.items() if bound.get("sparsity") is not None}
    for name, share in fixed.items():
        check_share(share, f"layers.{name}.sparsity")
    done, of_all = rounds
    requested = round(sparsity * tables.size) * done // of_all
    allowed = limits(tables, sparsity, {name: share * (done / of_all) for name, share in fixed.items()})
    total = allowed.clamp(requested)
    notes: tuple[str, ...] = ()
    if total != requested:
        reason = (
            "so many are 0 already or fixed by their layer"
            if total > requested
            else "every layer keeps a share or its fixed sparsity"
        )
        notes = (f"{total} weights are pruned instead of {requested}: {reason}",)
    return pruned_counts(tables, total, allowed, mode, omega), notes


def smallest_weights(
    tables: LayerTables, sparsity: float, layers: Mapping[str, Mapping[str, Any]], widths: Mapping[str, int], scope: str
) -> Allocation:
    """The smallest weights at zero and a given bit-width for the others of a layer, at its best step.

    Weights that are zero already and layers with a separate sparsity count, and every layer keeps 2 %. ``scope`` is
    one of :data:`SCOPES`.

    Raises:
        CompressionError: a sparsity of a layer outside [0, 1).
    """
    counts, notes = requested_counts(tables, sparsity, layers, SCOPES[scope], np.ones(len(tables.layers)))
    return equal_bits(tables, sparsity, counts.tolist(), widths, notes)


def pruned_counts(tables: LayerTables, total: int, bounds: WeightLimits, mode: str, omega: Floats) -> Ints:
    """How many weights each layer loses: int64 [layers], summing to exactly ``total`` (which ``bounds`` must allow).

    ``mode`` is ``laplace`` (one threshold, computed on the Laplace model), ``empirical`` (the same on the weights
    themselves: the exact optimum) or ``uniform`` (equal shares); ``omega`` [layers] weighs the layers' errors.
    """
    if mode == "empirical":
        return _by_one_threshold(tables, total, bounds, np.sqrt(omega))
    sizes = np.array([layer.size for layer in tables.layers], dtype=np.float64)
    if mode == "uniform":
        return _fill(lambda s: sizes * s, 1.0, total, bounds)
    scales = np.array([layer.scale for layer in tables.layers])
    spread = scales * np.sqrt(omega)
    rates = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)  # a layer of zeros is at its floor
    lost = 1.0 - 0.25 / sizes  # a share that rounds up to the whole layer
    return _fill(lambda s: -sizes * np.expm1(-s * rates), float((-np.log1p(-lost) * spread).max()), total, bounds)


def _fill(shares: Callable[[float], Floats], highest: float, total: int, bounds: WeightLimits) -> Ints:
    """Counts that grow with one common parameter, held within their limits, then rounded to sum to ``total``."""
    floors, caps = bounds.floors.astype(np.float64), bounds.caps.astype(np.float64)

    def held(s: float) -> Floats:
        return np.asarray(np.clip(shares(s), floors, caps))

    def excess(s: float) -> float:
        return float(held(s).sum()) - total

    if excess(0.0) >= 0:
        counts = held(0.0)
    elif excess(highest) <= 0:
        counts = held(highest)
    else:
        counts = held(brentq(excess, 0.0, highest, xtol=1e-15 * highest, rtol=8.9e-16, maxiter=500))
    return _largest_remainders(counts, total, bounds)


def _largest_remainders(counts: Floats, total: int, bounds: WeightLimits) -> Ints:
    whole = np.floor(counts).astype(np.int64)
    order = np.argsort(whole - counts, kind="stable")
    while (missing := total - int(whole.sum())) > 0:
        open_layers = order[whole[order] < bounds.caps[order]][:missing]
        whole[open_layers] += 1
    while (missing := total - int(whole.sum())) < 0:
        open_layers = order[::-1][whole[order[::-1]] > bounds.floors[order[::-1]]][:-missing]
        whole[open_layers] -= 1
    return whole


def _by_one_threshold(tables: LayerTables, total: int, bounds: WeightLimits, weight: Floats) -> Ints:
    """Bisect the threshold down to two neighbouring floats; weights on it are removed in the order of the layers."""

    def below(bar: float) -> Ints:
        counts = [_count(layer, bar / w) for layer, w in zip(tables.layers, weight, strict=True)]
        return np.clip(np.array(counts, dtype=np.int64), bounds.floors, bounds.caps)

    low, high = -1.0, 1.0 + max(float(layer.magnitudes[-1]) * w for layer, w in zip(tables.layers, weight, strict=True))
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (low, middle) if below(middle).sum() >= total else (middle, high)
    counts, most = below(low), below(high)
    for i in range(len(counts)):
        counts[i] += min(most[i] - counts[i], total - counts.sum())
    return counts


def _count(layer: LayerTable, bar: float) -> int:
    """How many magnitudes are at most ``bar``, compared in fp32 with the bar rounded down."""
    if bar < 0:
        return 0
    needle = np.float32(min(bar, float(np.finfo(np.float32).max)))
    if float(needle) > bar:
        needle = np.nextafter(needle, np.float32(0))
    return int(np.searchsorted(layer.magnitudes, needle, side="right"))
