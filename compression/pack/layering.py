"""Writing a layered file (:mod:`.layered` has its format), and the order in which its planes save most error a byte."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from compression.errors import CompressionError
from compression.pack.header import PREFIX, deflated, shortage
from compression.pack.layered_header import CRC, MAGIC, PLANES, STATISTICS, VERSION, Part, number_count, tensor_name
from compression.pack.rows import ALIAS, Row
from compression.pack.storable import named_tensors, raw_data, raw_row
from compression.quant.integers import IntegerWeight
from compression.quant.nested import OFFSET, NestedWeight
from compression.quant.spending import Problem, upgrades


def in_order(coded: Sequence[Sequence[bytes]], errors: Sequence[np.ndarray[Any, np.dtype[np.float64]]]) -> list[Part]:
    """The planes of all weights, that which saves most squared error a byte first (the hull of OPQ's allocation).

    Args:
        coded: the coded planes of each weight, the highest first.
        errors: of each weight with none to all of its planes, fp64 [planes + 1].
    """
    sizes = [[len(plane) + CRC.size for plane in planes] for planes in coded]
    costs = [np.array([*accumulate(own, initial=0)], dtype=np.int64) for own in sizes]
    _, steps = upgrades(Problem(costs, errors, sum(int(cost[-1]) for cost in costs)))
    taken = [0] * len(coded)
    order = []
    # Planes that save nothing are on no hull: they come last.
    ends = [*((step.layer, step.end) for step in steps), *((w, len(planes)) for w, planes in enumerate(coded))]
    for weight, end in ends:
        order += [Part(weight, coded[weight][plane]) for plane in range(taken[weight], end)]
        taken[weight] = max(end, taken[weight])
    return order


def to_bytes(
    state: Mapping[str, Any], weights: Sequence[NestedWeight], parts: Sequence[Part], statistics: Sequence[str] = ()
) -> bytes:
    """The layered file of a plain state dict; ``parts`` are its weights' planes in the order of the file.

    ``statistics``: the tensors to which parts of statistics hold differences (:func:`differences`).

    Raises:
        CompressionError: the state lacks a weight, or holds something that no file can.
    """
    known = {tensor_name(weight.name): weight for weight in weights}
    rows: list[Row] = []
    numbers, raw = {}, bytearray()
    for name, tensor, twin in named_tensors(state):
        if twin is not None:
            rows.append({"name": name, "kind": ALIAS, "target": twin})
        elif name in known:
            row = _row(name, known[name])
            rows.append(row)
            numbers[name] = _numbers(known[name], number_count(row))
        else:
            rows.append(raw_row(name, tensor))
            raw += raw_data(tensor)
    if numbers.keys() != known.keys():
        missing = sorted(known.keys() - numbers.keys())[0]
        raise CompressionError(f"{missing} is no tensor of this model with values of its own")
    places = {weights.index(known[name]): place for place, name in enumerate(numbers)}
    base = b"".join(numbers.values()) + raw
    base += bytes(shortage(sum(weight.codes.numel() for weight in weights), PREFIX.size + len(base)))
    order = [[places.get(part.weight, STATISTICS), len(part.data) + CRC.size, part.share] for part in parts]
    header = deflated({"tensors": rows, "base": len(base), "statistics": list(statistics), "order": order})
    coded = b"".join(part.data + CRC.pack(zlib.crc32(part.data)) for part in parts)
    return PREFIX.pack(MAGIC, VERSION, len(header), zlib.crc32(header + base)) + header + base + coded


def _row(name: str, weight: NestedWeight) -> Row:
    row: Row = {"name": name, "kind": PLANES, "shape": list(weight.codes.shape), "planes": weight.planes}
    axis = IntegerWeight(name, weight.codes, weight.step, 1, weight.offset).axis
    return {**row, "grid": weight.grid, **({} if axis is None else {"axis": axis})}


def _numbers(weight: NestedWeight, count: int) -> bytes:
    numbers = [weight.step] if weight.grid != OFFSET else [weight.step, weight.offset]
    flat = [torch.as_tensor(number, dtype=torch.float32).reshape(-1).cpu().numpy() for number in numbers]
    return b"".join(np.broadcast_to(each, count // len(flat)).astype("<f4").tobytes() for each in flat)


def differences(base: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], names: Sequence[str]) -> bytes:
    """What a part of statistics holds: state - base of these tensors as fp16, saturated where it would overflow."""
    most = float(np.finfo(np.float16).max)
    each = [(state[name].double() - base[name].double()).cpu().clamp(-most, most) for name in names]
    return b"".join(tensor.to(torch.float16).contiguous().numpy().astype("<f2").tobytes() for tensor in each)
