"""Zeros, bits and steps of every layer before it is rounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from compression.asks import check_taking_part
from compression.bounds import HIGHEST_BITS, LOWEST_BITS
from compression.posttraining.follow import output_error
from compression.posttraining.grams import LayerInputs
from compression.posttraining.rows import matrix
from compression.pruning.weights import requested_counts
from compression.quant.allocation import Allocation
from compression.quant.fixed_steps import step_of
from compression.quant.laplace import levels_of
from compression.quant.layer_options import Part, parts
from compression.quant.spending import Problem, choose
from compression.quant.tables import LayerTables

USUAL_HIGHEST = 8  # bit-width of a layer, unless the average comes near to it
Layers = Mapping[str, Mapping[str, Any]]


def plan(
    tables: LayerTables,
    sparsity: float,
    bits: float,
    layers: Layers,
    codebook: str,
    clip: str,
    inputs: tuple[nn.Module, Mapping[str, LayerInputs]] | None = None,
) -> Allocation:
    """How many weights each layer loses, its bit-width and its steps.

    Args:
        tables: of the dense weights, with channels where ``codebook`` is ``channel``.
        codebook, clip: what shares a step, and where it saturates: see :func:`compression.quant.layer_options.parts`.
        sparsity: share of all weights at zero, by one threshold for all layers.
        bits: of every layer, the whole number at or below; with ``inputs`` the average of all weights.
        layers: ``sparsity`` and ``weight_bits`` of single layers.
        inputs: the dense model, and what flows into its layers: bits are spent where they lower Σ over layers of
            tr(Δ G Δᵀ) / tr(W G Wᵀ), with Δ the error of nearest rounding. That these errors add up is a heuristic.

    Raises:
        CompressionError: bounds that cannot be met, or that name a layer which is not there.
    """
    names = [table.name for table in tables.layers]
    check_taking_part(layers, names)
    counts, notes = requested_counts(tables, sparsity, layers, "empirical", np.ones(len(names)))
    if inputs is None and bits != (whole := math.floor(bits)):
        equal = f"Every layer has {whole} bits, the whole number below {bits:g}"
        notes = (*notes, f"{equal}; with allocation output the average is spent.")
    choices = [_choices(layers.get(name, {}), bits, inputs is not None) for name in names]
    options = parts(
        tables.layers, counts.tolist(), choices, grid="plain", codebook=codebook, zeros="rounded", clip=clip
    )
    picks: tuple[int, ...] = (0,) * len(options)
    budget = sum(part.survivors.count * part.choices[0] for part in options)
    if inputs is not None:
        budget = math.floor(bits * sum(part.survivors.count for part in options) + 1e-6)
        model, sums = inputs
        errors = [_output_errors(model, part, sums.get(part.table.name)) for part in options]
        picks = choose(Problem([part.costs for part in options], errors, budget)).picks
    spent = sum(int(part.costs[pick]) for part, pick in zip(options, picks, strict=True))
    return Allocation(
        sparsity=sparsity,
        bits=bits,
        layers=tuple(part.plan(pick) for part, pick in zip(options, picks, strict=True)),
        pruned=int(counts.sum()),
        numel=tables.size,
        value_bits=spent,
        budget_bits=max(budget, spent),
        exact=inputs is None,
        zeros="rounded",
        codebook="channel" if codebook == "channel" else "layer",
        notes=notes,
    )


def _choices(bound: Mapping[str, Any], bits: float, spread: bool) -> tuple[int, ...]:
    """The bit-widths that a layer may have."""
    low, high = bound.get("weight_bits") or (
        (LOWEST_BITS, min(HIGHEST_BITS, max(USUAL_HIGHEST, math.ceil(bits) + 2))) if spread else (bits, bits)
    )
    if spread:
        return tuple(range(math.ceil(low), math.floor(high) + 1))
    return (min(max(math.floor(bits), math.ceil(low)), math.floor(high)),)


def _output_errors(model: nn.Module, part: Part, inputs: LayerInputs | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    """tr(Δ G Δᵀ) / tr(W G Wᵀ) of nearest rounding at each choice; the error of the weights where G is not known."""
    if inputs is None:
        return part.errors / max(float(part.table.second[-1]), 1e-300)
    layer = model.get_submodule(part.table.name)
    weight = layer.get_parameter("weight").detach()
    wide = matrix(layer, weight).to(inputs.gram.dtype)
    whole = output_error(wide, inputs.gram)
    errors = []
    for pick, bits in enumerate(part.choices):
        step = matrix(layer, step_of(part.plan(pick), weight).expand_as(weight)).to(wide)
        rounded = (wide / step).round().clamp(-levels_of(bits), levels_of(bits)) * step
        errors.append(output_error(wide - rounded, inputs.gram) / max(whole, 1e-300))
    return np.array(errors)
