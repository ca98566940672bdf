"""Channel counts that processors like: some removed channels come back as zeros, so that a multiple stays.

The network computes what it computed; it is larger, and on many processors faster. Whether it is here is measured.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compression.counting.cost import cost
from compression.errors import CompressionError
from compression.export.source import Source
from compression.graph.cuts import along, cuts, put_back, without
from compression.graph.equality import check_equal, outputs
from compression.graph.slim import to_multiple
from compression.pack import integers, pack
from compression.pack.restore import Units, restore_slim
from compression.quant import IntegerWeight

EIGHT = 8
Cut = Mapping[str, Any]


def rounded_units(source: Source, multiple: int) -> dict[str, list[int]]:
    """Group id → units that stay removed when every group keeps a multiple of channels."""
    kept = {name: to_multiple(source.graph.group(name), sorted(gone), multiple) for name, gone in source.units.items()}
    return {name: gone for name, gone in kept.items() if gone}


def changes(source: Source, multiple: int) -> bool:
    """Whether any channel count is no multiple yet."""
    return _counts(rounded_units(source, multiple)) != _counts(source.units)


def rounded(source: Source, multiple: int) -> Source:
    """The run with channel counts at multiples, packed and counted anew; its accuracy is the run's.

    Raises:
        CompressionError: the multiple is below 1, no channel count needs it, or the larger network answers otherwise.
    """
    units = rounded_units(source, multiple)
    if _counts(units) == _counts(source.units):
        raise CompressionError(
            f"run {source.run} removed no channels that would come back at multiples of {multiple}: export without it"
        )
    gone, left = cuts(source.graph, source.units), cuts(source.graph, units)
    model = restore_slim(source.dense, source.graph, units, _state(source, gone, left))
    images = (source.graph.example(4),)
    check_equal(source.model, model, images, outputs(source.model, images), "the one with fewer channels")
    weights = {layer.name: layer.weight for layer in source.graph.layers}
    codes = {name: _codes(source, known, weights[name], gone, left) for name, known in source.integers.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.packed"
        ledger = dataclasses.asdict(pack(model, path, codes))
        packed, known = path.read_bytes(), integers(path)
    result = _counted(source, units, ledger)
    return dataclasses.replace(
        source, result=result, model=model, units=units, integers=known, packed=packed, multiple=multiple
    )


def _counts(units: Units) -> dict[str, int]:
    return {name: len(gone) for name, gone in units.items() if gone}


def _state(source: Source, gone: Cut, left: Cut) -> dict[str, torch.Tensor]:
    """The slim model's tensors with the channels that come back: zeros, and ones in a norm's statistics."""
    dense = source.dense.state_dict(keep_vars=True)
    first = {id(tensor): name for name, tensor in source.dense.named_parameters()}  # the name of shared ones in cuts
    found = {}
    for name, tensor in source.model.state_dict().items():
        original = dense.get(name)
        owner = name if original is None else first.get(id(original), name)
        if original is not None and owner in gone:
            fill = 0.0 if isinstance(original, torch.nn.Parameter) else 1.0
            tensor = without(put_back(tensor, gone[owner], original.shape, fill), left.get(owner, ()))
        found[name] = tensor
    return found


def _codes(source: Source, known: IntegerWeight, weight: str, gone: Cut, left: Cut) -> IntegerWeight:
    dropped, stays = gone.get(weight, ()), left.get(weight, ())
    shape = source.graph.sizes[weight]
    step = known.step
    if isinstance(step, torch.Tensor):
        lost = [(dim, positions) for dim, positions in dropped if step.shape[dim] > 1]
        full = [size if step.shape[dim] > 1 else 1 for dim, size in enumerate(shape)]
        step = along(put_back(step, lost, full, 1.0), stays)
    codes = without(put_back(known.codes, dropped, shape, 0), stays)
    return dataclasses.replace(known, codes=codes, step=step)


def _counted(source: Source, units: Units, ledger: Mapping[str, int]) -> dict[str, Any]:
    """The run's result with what the larger network costs."""
    bits = {name: (told["weight"], told["activation"]) for name, told in source.result["final"]["bits"].items()}
    steps = {name: known.axis for name, known in source.integers.items() if known.axis is not None}
    counted = cost(source.graph, units, bits, steps)
    final = {
        **source.result["final"], "bytes": ledger["total"], "macs": counted.macs, "bops": counted.bops,
        "rel_bops": counted.rel_bops, "nominal_bytes": counted.nominal_bytes, "unit_sparsity": counted.unit_sparsity,
    }  # fmt: skip
    return {**source.result, "final": final, "ledger": dict(ledger), "units": dict(units), "removed": _counts(units)}
