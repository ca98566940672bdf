"""OPQ's allocation of sparsity and bits to layers, from the trained weights alone (arXiv 2205.11141, section 3).

:class:`LayerTables` are prepared once for a model; every budget is then answered from them, fast enough for a slider.
Equation numbers (eq. O…) are those of ``docs/derivations/opq.md``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compression.bounds import HIGHEST_BITS, LOWEST_BITS, check_bits
from compression.errors import CompressionError
from compression.methods.opq.options import check_names, check_settings
from compression.pruning.weights import requested_counts
from compression.quant.allocation import Allocation
from compression.quant.layer_options import parts
from compression.quant.spending import Problem, choose
from compression.quant.tables import LayerTables

Floats = NDArray[np.float64]
Layers = Mapping[str, Mapping[str, Any]]
USUAL_HIGHEST = 8  # bit-width of a layer, unless the average comes near to it


def allocate(
    model: nn.Module | Mapping[str, torch.Tensor] | LayerTables,
    sparsity: float,
    bits: float,
    layers: Layers | None = None,
    *,
    prune_mode: str = "laplace",
    scope: str = "network",
    grid: str = "plain",
    codebook: str = "layer",
    omega: str | Mapping[str, float] = "equal",
    skip: Collection[str] = (),
    zeros: str = "exact",
    tables: str = "exact",
) -> Allocation:
    """Return the pruned share, the bit-width and the step of every layer.

    Args:
        model: any module (its convolution and linear weights), layer weights by name, or tables prepared before.
        sparsity: share of these N weights to prune: exactly round(sparsity * N).
        bits: average value bits per surviving weight, never exceeded.
        layers: for a layer, a fixed ``sparsity`` and a range ``weight_bits``.
        prune_mode: ``laplace``, ``empirical`` (the exact optimum) or ``uniform``.
        scope: ``network``: ``bits`` is the average over all layers; ``layer``: the bound of each layer.
        grid: ``plain``, the levels k·Δ, or ``survivor``, the levels t + (k - 1/2)Δ beyond the layer's threshold t.
        codebook: ``layer``, one step for all channels, or ``channel``, one set of levels times a scale for each channel
            (not part of OPQ).
        omega: weight of each layer's error: ``equal``, ``scale`` (1/τ²), ``energy`` (1/Σw²) or a number by layer name.
        skip: layers that are not compressed; they do not count in N.
        zeros: ``exact`` keeps survivors at ±Δ or more, so that the codes that are 0 are the pruned weights; ``rounded``
            lets small survivors round to 0.
        tables: ``exact`` searches the steps and proves the bits; ``laplace`` takes both from the Laplace model, which
            is faster.

    Raises:
        CompressionError: NaN or infinite weights, unknown layers or options, impossible bounds.
    """
    chosen = check_settings(
        sparsity, bits,
        prune_mode=prune_mode, scope=scope, grid=grid, codebook=codebook, omega=omega, zeros=zeros, tables=tables,
    )  # fmt: skip
    # Sorted magnitudes and their sums, once for a model.
    if isinstance(model, LayerTables) and skip:
        raise CompressionError("skip: these tables are prepared already; name the layers to skip when preparing them")
    prepared = model if isinstance(model, LayerTables) else LayerTables.prepare(model, skip, codebook == "channel")
    bounds = _known_layers(layers or {}, prepared)
    weights = _omega_values(omega, prepared)
    # k_i, how many weights each layer loses: one threshold on √ω_i |w| (section 3.2, eq. O1 to O5).
    counts, notes = requested_counts(prepared, sparsity, bounds, prune_mode, weights)
    # Options of each layer: bit-width → best step Δ, squared error, value bits (section 3.3, eq. O8 to O11).
    choices = [_bit_choices(bounds.get(t.name, {}), t.name, bits) for t in prepared.layers]
    options = parts(
        prepared.layers, counts.tolist(), choices,
        grid=grid, codebook=codebook, zeros=zeros, modelled=tables == "laplace",
    )  # fmt: skip
    # min Σ ω_i e_i(b_i) subject to Σ c_i(b_i) ≤ bits · (number of survivors) (eq. O12).
    problem = Problem(
        [part.costs for part in options],
        [weight * part.errors for weight, part in zip(weights, options, strict=True)],
        math.floor(bits * sum(part.survivors.count for part in options) + 1e-6),
    )
    picks, gap, proven = _spend(problem, choices, bits, scope, exact=tables == "exact")
    return Allocation(
        sparsity=sparsity,
        bits=bits,
        layers=tuple(part.plan(pick) for part, pick in zip(options, picks, strict=True)),
        pruned=int(counts.sum()),
        numel=prepared.size,
        value_bits=problem.evaluate(picks)[1],
        budget_bits=problem.budget,
        exact=proven and tables == "exact",
        gap=gap,
        zeros=chosen.zeros,
        grid=chosen.grid,
        codebook=chosen.codebook,
        notes=notes,
    )


allocate_from = allocate  # its name for tables prepared once


def _spend(
    problem: Problem, choices: list[tuple[int, ...]], bits: float, scope: str, exact: bool
) -> tuple[tuple[int, ...], float, bool]:
    """Return the chosen option of each layer, the relative gap to the lower bound, and whether it is the optimum."""
    if scope == "network":
        choice = choose(problem, exact)
        return choice.picks, (choice.error - choice.bound) / max(choice.bound, 1e-300), choice.exact
    picks = tuple(max(0, sum(option <= bits for option in options) - 1) for options in choices)
    if problem.evaluate(picks)[1] > problem.budget:
        raise CompressionError(
            f"the layers' lowest bit-widths do not fit {bits:g} bits a layer; raise the bits or lower them"
        )
    return picks, 0.0, True


def _known_layers(layers: Layers, prepared: LayerTables) -> Layers:
    """The bounds of single layers, once every layer they name is known to take part."""
    names = [table.name for table in prepared.layers]
    for name in layers:
        if name not in names:
            raise CompressionError(f"layers: no layer {name!r} takes part; layers: {', '.join(names)}")
    return layers


def _omega_values(omega: str | Mapping[str, float], prepared: LayerTables) -> Floats:
    """ω, the weight of each layer's error: fp64 [layers]."""
    if isinstance(omega, Mapping):
        check_names({"omega": omega}, [table.name for table in prepared.layers])
        return np.array([float(omega.get(table.name, 1.0)) for table in prepared.layers])
    if omega == "equal":
        return np.ones(len(prepared.layers))
    size = [t.scale**2 if omega == "scale" else float(t.second[-1]) for t in prepared.layers]
    return np.array([1.0 / s if s > 0 else 1.0 for s in size])


def _bit_choices(bound: Mapping[str, Any], name: str, bits: float) -> tuple[int, ...]:
    """The bit-widths a layer may get: its own bounds, or 2..8, reaching higher when the average asks for it."""
    if bound.get("weight_bits") is not None:
        check_bits(bound["weight_bits"], f"layers.{name}.weight_bits")
        low, high = bound["weight_bits"]
        return tuple(range(math.ceil(low), math.floor(high) + 1))
    return tuple(range(LOWEST_BITS, min(HIGHEST_BITS, max(USUAL_HIGHEST, math.ceil(bits) + 2)) + 1))
