"""What of a finished run is nested: its weights before they were rounded, where they are known, else its integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from compression.errors import CompressionError
from compression.export.layered_table import INTEGERS, TRAINED
from compression.export.source import Source
from compression.graph.cuts import cuts, without
from compression.quant.integers import IntegerWeight
from compression.quant.nested import NestedWeight, nested, of_codes
from compression.quant.tables import layer_weights
from compression.runs.prepare import find_weights
from compression.zoo.weights import digest

HALF = 0.5001
"""Of a step: how far rounding to nearest moves a weight, with room for how fp32 rounds the quotient."""


@dataclass(frozen=True)
class Nested:
    """The ``weights`` in the state's order, what each is compared to (``targets``, fp32), and ``of``: what they were.

    ``trained weights``: those that the run rounded to nearest and did not train, cut into cells; ``integers of the
    run``: its codes, whose planes all together are the run's packed weights, bit for bit.
    """

    weights: list[NestedWeight]
    targets: list[torch.Tensor]
    source: str


def nest(source: Source, bits: int) -> Nested:
    """The weights of a run as nested ones; ``bits`` is the highest precision of those that are cut anew.

    Run folders keep weights on their grids only. A run that rounded its dense weights and did nothing else to them is
    recognized by its codes being the nearest ones: then these weights are known, and can be cut finer than the run did.

    Raises:
        CompressionError: the run has no quantized weights, or some that are on no uniform grid.
    """
    codes = _on_grids(source)
    dense = _rounded(source, codes)
    if dense is None:
        return Nested([of_codes(weight) for weight in codes], [weight.weight() for weight in codes], INTEGERS)
    targets = [dense[weight.name] for weight in codes]
    return Nested([nested(w.name, t, bits - 1) for w, t in zip(codes, targets, strict=True)], targets, TRAINED)


def _on_grids(source: Source) -> list[IntegerWeight]:
    if not source.integers:
        raise CompressionError(f"run {source.run} has no quantized weights: there are no planes to layer")
    for name, weight in source.integers.items():
        if not isinstance(weight, IntegerWeight):
            raise CompressionError(
                f"layer {name}: weights of the encoding {weight.kind} have no bit planes; only those on a "
                "uniform grid can be layered"
            )
    return [weight for weight in source.integers.values() if isinstance(weight, IntegerWeight)]


def _rounded(source: Source, codes: list[IntegerWeight]) -> Mapping[str, torch.Tensor] | None:
    """The dense weights without the removed units, if rounding them to the run's grids gives the run's codes."""
    try:
        dense = find_weights(source.budget).model
    except CompressionError:
        return None  # not on this machine: the codes are
    if source.result.get("weights_digest") not in (None, digest(dense)):
        return None
    dropped = cuts(source.graph, source.units)
    tensors = {layer.name: layer.weight for layer in source.graph.layers}
    weights = layer_weights(dense)
    result = {}
    for weight in codes:
        if weight.name not in weights or weight.name not in tensors or weight.offset is not None:
            return None
        own = without(weights[weight.name].float(), dropped.get(tensors[weight.name], ()))
        if not _nearest(own, weight):
            return None
        result[weight.name] = own
    return result


def _nearest(weight: torch.Tensor, rounded: IntegerWeight) -> bool:
    """Whether every code is the nearest one, or the last one of a weight beyond it."""
    if tuple(weight.shape) != rounded.shape:
        return False
    values, step = rounded.weight(), torch.as_tensor(rounded.step)
    last = rounded.codes.abs() == 2 ** (rounded.bits - 1) - 1
    beyond = last & (weight.abs() >= values.abs()) & (weight.sign() == rounded.codes.sign())
    return bool((((weight - values).abs() <= HALF * step) | beyond).all())
