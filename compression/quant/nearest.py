"""Rounding to nearest: the step of each layer's symmetric quantizer for a given bit-width, and its exact error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from compression.quant import quantizer_of
from compression.quant.allocation import Allocation, LayerAllocation
from compression.quant.fixed_steps import scheme_quantizer
from compression.quant.integers import WEIGHT
from compression.quant.laplace import levels_of
from compression.quant.layer_options import parts
from compression.quant.quantizer import Quantizer
from compression.quant.schemes import BEST, UNIFORM, fit
from compression.quant.steps import Survivors, best_steps
from compression.quant.tables import LayerTable, LayerTables


def rounding(
    tables: LayerTables,
    widths: Mapping[str, int],
    clip: str = "mse",
    *,
    scheme: str = UNIFORM,
    percentile: float = 100.0,
) -> Allocation:
    """Round every weight to the nearest level of its layer's ``scheme``, its bit-width b being given.

    In the scheme ``uniform`` levels are k·d with |k| <= Q = 2^(b-1) - 1, and ``clip`` is ``mse`` (the step d with the
    least squared error; larger weights saturate), ``max`` (d = max|w| / Q) or ``percentile`` (that percentile of |w| in
    its place). The other schemes (:mod:`.schemes`) are fitted to the least squared error. Nothing is pruned.
    """
    layers = tuple(
        _layer(table, widths[table.name], clip, percentile)
        if scheme == UNIFORM
        else fitted(table, widths[table.name], scheme)
        for table in tables.layers
    )
    spent = sum(layer.numel * layer.bits for layer in layers)
    fewer = [layer.bits for layer in layers if layer.bits < widths[layer.name] and scheme != BEST]
    notes = (f"Scheme {scheme} has levels for {max(fewer)} bits, no more: layers get these.",) if fewer else ()
    return Allocation(
        sparsity=0.0,
        bits=spent / tables.size,
        layers=layers,
        pruned=0,
        numel=tables.size,
        value_bits=spent,
        budget_bits=spent,
        exact=clip == "mse",
        zeros="rounded",
        grid="plain" if scheme == UNIFORM else "mixed",
        notes=notes,
    )


def equal_bits(
    tables: LayerTables, sparsity: float, counts: Sequence[int], widths: Mapping[str, int], notes: tuple[str, ...] = ()
) -> Allocation:
    """The ``counts`` smallest weights of each layer at zero, and the best step for the others at a given bit-width.

    ``sparsity`` is what was requested, and ``notes`` say where it could not be reached, as the allocation states them.
    """
    choices = [(widths[table.name],) for table in tables.layers]
    options = parts(tables.layers, counts, choices, grid="plain", codebook="layer", zeros="exact", modelled=False)
    survivors = [table.size - count for table, count in zip(tables.layers, counts, strict=True)]
    bits = max(widths.values())
    return Allocation(
        sparsity=sparsity,
        bits=bits,
        layers=tuple(option.plan(0) for option in options),
        pruned=int(sum(counts)),
        numel=tables.size,
        value_bits=sum(size * width for size, (width,) in zip(survivors, choices, strict=True)),
        budget_bits=sum(survivors) * bits,
        exact=True,
        notes=notes,
    )


def fitted(table: LayerTable, bits: int, scheme: str) -> LayerAllocation:
    """A layer in a scheme of :mod:`.schemes`."""
    best = fit(table, bits, scheme)
    return LayerAllocation(
        table.name, table.size, 0, 0.0, best.bits, best.step, best.error, 0.0, offset=0.0 if best.middle else None,
        scheme=best.scheme, levels=best.levels,
    )  # fmt: skip


def _layer(table: LayerTable, bits: int, clip: str, percentile: float) -> LayerAllocation:
    largest = float(table.magnitudes[-1])
    if clip == "percentile":
        rank = math.ceil(percentile / 100 * table.size) - 1
        largest = float(table.magnitudes[max(0, rank)]) or largest
    if largest == 0:
        step, error = 1.0, 0.0
    elif clip == "mse":
        steps, errors = best_steps(Survivors(table, 0, lowest=0), (bits,))
        step, error = float(steps[0]), float(errors[0])
    else:
        step = float(np.float32(largest / levels_of(bits)))
        error = float(Survivors(table, 0, lowest=0).errors(np.array([step]), bits)[0])
    return LayerAllocation(table.name, table.size, 0, 0.0, bits, step, error, 0.0)


@torch.no_grad()
def set_range(model: nn.Module, layer: LayerAllocation) -> None:
    """Give the quantizer on this layer's weight its bit-width, and the clipping bound that makes its step the step.

    A layer of another scheme gets a quantizer of that in its place.
    """
    own = model.get_submodule(layer.name)
    quantizer = quantizer_of(own)
    assert isinstance(quantizer, Quantizer), "quantize() was called before"
    other = scheme_quantizer(layer, _chain(own).original)
    if other is not None:
        for chain in (_chain(module) for module in model.modules() if quantizer_of(module) is quantizer):
            chain[list(chain).index(quantizer)] = other
        return
    quantizer.clip.fill_(layer.step * levels_of(layer.bits))
    quantizer.set_bits(layer.bits)


def _chain(module: nn.Module) -> Any:
    """The parametrizations of a module's weight, and its ``original``."""
    parametrizations: Any = module.parametrizations
    return parametrizations[WEIGHT]
