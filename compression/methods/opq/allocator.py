"""Allocating: how sparsity and bits are spent over the layers, from the trained weights alone.

Prepare a model's tables once; every further budget is then answered from them, fast enough to follow a slider.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compression.errors import CompressionError
from compression.methods.opq.bits import Problem, choose
from compression.methods.opq.options import Layers, bit_choices, check_settings, known_layers, omega_values
from compression.pruning.weights import requested_counts
from compression.quant.allocation import Allocation
from compression.quant.layer_options import parts
from compression.quant.tables import LayerTables

Floats = NDArray[np.float64]


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
    """Decide which share of each layer is pruned, and each layer's bit-width and step.

    Args:
        model: any module (its convolution and linear weights), layer weights by name, or tables prepared before.
        sparsity: share of these weights to prune; round(sparsity * N) of them, exactly.
        bits: average value bits per surviving weight, never exceeded.
        layers: per layer any of ``sparsity`` (kept to) and ``weight_bits`` (a range, kept to).
        prune_mode: ``laplace``, ``empirical`` (the exact optimum) or ``uniform``.
        scope: ``network`` spends the bits over all layers, ``layer`` holds each layer to them.
        grid: ``plain``, the levels k·Δ, or ``survivor``, the levels t + (k - 1/2)Δ beyond the layer's threshold t.
        codebook: ``layer``, one step for all channels, or ``channel``, each channel's scale times one set of levels (an
            addition, not part of OPQ).
        omega: weight of each layer's error: ``equal``, ``scale`` (1/τ²), ``energy`` (1/Σw²) or a number by layer name.
        skip: layers left alone; they do not count in N.
        zeros: ``exact`` keeps survivors at ±Δ or more, so that as many codes are 0 as were pruned; ``rounded`` lets
            small survivors round to 0.
        tables: ``exact`` searches the steps and proves the bits; ``laplace`` takes both from the model, faster.

    Raises:
        CompressionError: NaN or infinite weights, unknown layers or options, impossible bounds.
    """
    if isinstance(model, LayerTables) and skip:
        raise CompressionError("skip: these tables are prepared already; name the layers to skip when preparing them")
    prepared = model if isinstance(model, LayerTables) else LayerTables.prepare(model, skip, codebook == "channel")
    return allocate_from(
        prepared, sparsity, bits, layers,
        prune_mode=prune_mode, scope=scope, grid=grid, codebook=codebook, omega=omega, zeros=zeros, tables=tables,
    )  # fmt: skip


def allocate_from(
    prepared: LayerTables,
    sparsity: float,
    bits: float,
    layers: Layers | None = None,
    *,
    prune_mode: str = "laplace",
    scope: str = "network",
    grid: str = "plain",
    codebook: str = "layer",
    omega: str | Mapping[str, float] = "equal",
    zeros: str = "exact",
    tables: str = "exact",
) -> Allocation:
    """:func:`allocate` on tables prepared once (for channels, where ``codebook`` asks): what a slider calls."""
    options = check_settings(
        sparsity, bits,
        prune_mode=prune_mode, scope=scope, grid=grid, codebook=codebook, omega=omega, zeros=zeros, tables=tables,
    )  # fmt: skip
    bounds = known_layers(layers or {}, prepared)
    weights = omega_values(omega, prepared)
    counts, notes = requested_counts(prepared, sparsity, bounds, prune_mode, weights)
    choices = [bit_choices(bounds.get(t.name, {}), t.name, bits) for t in prepared.layers]
    found = parts(
        prepared.layers, counts.tolist(), choices,
        grid=grid, codebook=codebook, zeros=zeros, modelled=tables == "laplace",
    )  # fmt: skip
    problem = Problem(
        [part.costs for part in found],
        [weight * part.errors for weight, part in zip(weights, found, strict=True)],
        math.floor(bits * sum(part.survivors.count for part in found) + 1e-6),
    )
    picks, gap, proven = _spend(problem, choices, bits, scope, exact=tables == "exact")
    return Allocation(
        sparsity=sparsity,
        bits=bits,
        layers=tuple(part.plan(pick) for part, pick in zip(found, picks, strict=True)),
        pruned=int(counts.sum()),
        numel=prepared.size,
        value_bits=problem.evaluate(picks)[1],
        budget_bits=problem.budget,
        exact=proven and tables == "exact",
        gap=gap,
        zeros=options.zeros,
        grid=options.grid,
        codebook=options.codebook,
        notes=notes,
    )


def _spend(
    problem: Problem, choices: list[tuple[int, ...]], bits: float, scope: str, exact: bool
) -> tuple[tuple[int, ...], float, bool]:
    """The chosen option of each layer, the relative gap to the proven bound, and whether the optimum is proven."""
    if scope == "network":
        choice = choose(problem, exact)
        return choice.picks, (choice.error - choice.bound) / max(choice.bound, 1e-300), choice.exact
    picks = tuple(max(0, sum(option <= bits for option in options) - 1) for options in choices)
    if problem.evaluate(picks)[1] > problem.budget:
        raise CompressionError(
            f"the layers' lowest bit-widths do not fit {bits:g} bits a layer; raise the bits or lower them"
        )
    return picks, 0.0, True
