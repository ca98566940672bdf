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

from compression import encodings
from compression.counting.cost import cost
from compression.counting.sizes import nominal_extra
from compression.errors import CompressionError
from compression.export.source import Source
from compression.graph.cuts import Cuts, cuts, put_back, without
from compression.graph.equality import check_equal, outputs
from compression.graph.slim import to_multiple
from compression.pack import integers, pack
from compression.pack.restore import Units, restore_slim
from compression.quant import QuantizedWeight

EIGHT = 8


def rounded_units(source: Source, multiple: int) -> dict[str, list[int]]:
    """Group id → units that stay removed when every group keeps a multiple of channels."""
    rounded = {name: to_multiple(source.graph.group(name), sorted(u), multiple) for name, u in source.units.items()}
    return {name: units for name, units in rounded.items() if units}


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
    removed, remaining = cuts(source.graph, source.units), cuts(source.graph, units)
    model = restore_slim(source.wide, source.graph, units, _state(source, removed, remaining))
    images = source.graph.example(4)
    check_equal(source.model, model, images, outputs(source.model, images), "the one with fewer channels")
    codes = {name: _put_back(source, weight, removed, remaining) for name, weight in source.integers.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.packed"
        ledger = pack(model, path, codes).to_dict()
        packed, known = path.read_bytes(), integers(path)
    result = _counted(source, units, codes, ledger)
    return dataclasses.replace(
        source, result=result, model=model, units=units, integers=known, packed=packed, multiple=multiple
    )


def _counts(units: Units) -> dict[str, int]:
    return {name: len(removed) for name, removed in units.items() if removed}


def _state(source: Source, removed: Cuts, remaining: Cuts) -> dict[str, torch.Tensor]:
    """The slim model's tensors with the channels that come back: zeros, and ones in a norm's statistics."""
    dense = source.wide.state_dict(keep_vars=True)
    first = {id(tensor): name for name, tensor in source.wide.named_parameters()}  # the name of shared ones in cuts
    state = {}
    for name, tensor in source.model.state_dict().items():
        original = dense.get(name)
        owner = name if original is None else first.get(id(original), name)
        if original is not None and owner in removed:
            fill = 0.0 if isinstance(original, torch.nn.Parameter) else 1.0
            tensor = without(put_back(tensor, removed[owner], original.shape, fill), remaining.get(owner, ()))
        state[name] = tensor
    return state


def _put_back(source: Source, weight: QuantizedWeight, removed: Cuts, remaining: Cuts) -> QuantizedWeight:
    """A weight with the channels that come back; what its encoding puts there is zero."""
    tensor = next(layer.weight for layer in source.graph.layers if layer.name == weight.name)
    encoding = encodings.get(weight.kind)
    dense = encoding.put_back(weight, removed.get(tensor, ()), source.graph.sizes[tensor])
    result: QuantizedWeight = encoding.cut(dense, remaining.get(tensor, ()))
    return result


def _counted(
    source: Source, units: Units, codes: Mapping[str, QuantizedWeight], ledger: Mapping[str, int]
) -> dict[str, Any]:
    """The run's result with what the larger network costs."""
    bits = source.result["final"]["bits"]
    counted = cost(source.graph, units, {name: (b["weight"], b["activation"]) for name, b in bits.items()})
    extra = nominal_extra({name: encodings.size_of(weight) for name, weight in codes.items()}, bits)
    final = {
        **source.result["final"], "bytes": ledger["total"], "macs": counted.macs, "bops": counted.bops,
        "rel_bops": counted.rel_bops, "nominal_bytes": counted.nominal_bytes + extra,
        "unit_sparsity": counted.unit_sparsity,
    }  # fmt: skip
    return {**source.result, "final": final, "ledger": dict(ledger), "units": dict(units), "removed": _counts(units)}
