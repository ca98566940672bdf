"""``groups``: integer codes times the step of their group, neighbouring weights of a row; steps are fp16.

The zero points of affine groups are whole, and codes are counted from them: 0 stands for 0 in every group.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from compression.counting.entropy import entropy_bytes
from compression.counting.ledger import WeightBytes
from compression.counting.sizes import Dropped, WeightSize
from compression.encodings.base import Arrays, Encoding, Integers, Layout, Numbers, Row, stream_size
from compression.encodings.onnx_form import Nodes, OnnxForm
from compression.graph.cuts import put_back, without
from compression.quant.groups import GroupWeight, steps_of

REASON = "codes with a step and a zero point for each group of neighbours in a row"
STREAMS = ("codes", "sizes", "steps")
HALF_BITS, HALF_ONE, HALF_MOST = 16, 0x3C00, 0x7BFF


def groups(row: Row, codes: Integers, sizes: Integers, steps: Integers, scale: Numbers) -> Numbers:
    """A code times the step of its group: fp16 bits, times the scale."""
    by_row = steps.astype("u2").view("f2").astype("f4").reshape(-1, len(sizes)) * scale
    return codes.reshape(row["shape"]).astype("f4") * np.repeat(by_row, sizes, 1).reshape(row["shape"]) + 0.0


class GroupEncoding(Encoding[GroupWeight]):
    """Streams ``codes``, ``sizes`` (of the groups of a row) and ``steps`` (of all rows' groups); number ``scale``."""

    kind: ClassVar[str] = "groups"
    decode = staticmethod(groups)

    def fields(self, weight: GroupWeight) -> dict[str, Any]:
        """None: the groups have a stream."""
        return {}

    def arrays(self, weight: GroupWeight) -> Arrays:
        """Codes, sizes of groups, steps, and what multiplies these."""
        parts = (weight.codes, weight.sizes, weight.halves)
        flat = [part.detach().cpu().to(torch.int32).contiguous().reshape(-1).numpy() for part in parts]
        streams = dict(zip(STREAMS, flat, strict=True))
        return Arrays(streams, {"scale": np.array([weight.scale], np.float32)})

    def layout(self, row: Row) -> Layout:
        """A code for each weight, a step for each group of each row."""
        if not row["shape"] or "sizes" not in row["streams"] or (count := stream_size(row, "sizes")) < 1:
            raise ValueError("a weight in groups has rows of one group or more")
        streams = {"codes": math.prod(row["shape"]), "sizes": count, "steps": row["shape"][0] * count}
        return Layout(streams, {"scale": 1})

    def verify(self, row: Row, arrays: Arrays) -> None:
        """Groups fill the rows, steps are positive, and the codes of a group fit into its bits."""
        codes, sizes, steps = (arrays.streams[name] for name in STREAMS)
        length = math.prod(row["shape"][1:])
        if sizes.min() < int(length > 0) or sizes.sum(dtype=np.int64) != length:
            raise ValueError(f"groups of other sizes than fill rows of {length}")
        if steps.size and (steps.min() < 1 or steps.max() > HALF_MOST):
            raise ValueError("the step of a group is no positive number")
        if codes.size and int(_spans(codes.reshape(-1, length), sizes)[1].max()) >= 2 ** row["bits"]:
            raise ValueError(f"the codes of a group do not fit into {row['bits']} bits")

    def restore(self, layer: str, row: Row, arrays: Arrays) -> GroupWeight:
        """Codes in the weight's shape, steps by row."""
        codes, sizes, steps = (torch.from_numpy(np.array(arrays.streams[name], np.int32)) for name in STREAMS)
        scale = float(arrays.numbers["scale"][0])
        halves = steps.reshape(-1, len(sizes))
        return GroupWeight(layer, codes.reshape(row["shape"]), halves, scale, sizes, row["bits"])

    def account(self, row: Row, streams: Mapping[str, tuple[int, int]]) -> WeightBytes:
        """Steps and sizes of groups are scales, whatever they are stored as."""
        scales = sum(streams["sizes"]) + sum(streams["steps"])
        return WeightBytes(*streams["codes"], 4 * row["numbers"]["scale"] + scales)

    def size(self, weight: GroupWeight, dropped: Dropped = ()) -> WeightSize:
        """Nominally a group takes 16 bits for its step and a code's bits for its zero point."""
        counted, remaining = super().size(weight, dropped), self.cut(weight, dropped)
        groups = remaining.halves.numel()
        more = math.ceil(groups * (HALF_BITS + weight.bits) / weight.bits)
        span = int(remaining.halves.max() - remaining.halves.min()) if groups else 0
        coded = entropy_bytes(remaining.codes) + groups * span.bit_length() / 8
        return counted._replace(coded=coded, integers=remaining.codes.numel() + more)

    def cut(self, weight: GroupWeight, dropped: Dropped) -> GroupWeight:
        """Groups become shorter where columns go; those without any left go too."""
        if not dropped:
            return weight
        rows, columns = ([(dim, at) for dim, at in dropped if (dim == 0) == first] for first in (True, False))
        remaining = without(_columns(weight).reshape(1, *weight.shape[1:]), columns).flatten()
        sizes = torch.bincount(remaining.cpu(), minlength=len(weight.sizes)).to(weight.sizes)
        live = torch.nonzero(sizes).flatten() if bool(sizes.any()) else torch.zeros(1, dtype=torch.int64)
        halves = without(weight.halves, rows)[:, live.to(weight.halves.device)]
        return dataclasses.replace(
            weight, codes=without(weight.codes, dropped), halves=halves, sizes=sizes[live.to(sizes.device)]
        )

    def put_back(self, weight: GroupWeight, dropped: Dropped, shape: Sequence[int]) -> GroupWeight:
        """Codes of 0 in the group of their neighbour, and steps of 1 for rows."""
        rows, columns = ([(dim, at) for dim, at in dropped if (dim == 0) == first] for first in (True, False))
        known = put_back(_columns(weight).reshape(1, *weight.shape[1:]), columns, (1, *shape[1:]), 0).flatten()
        column = torch.cummax(known, 0).values if known.numel() else known
        sizes = torch.bincount(column.cpu(), minlength=len(weight.sizes)).to(weight.sizes)
        halves = put_back(weight.halves, rows, (shape[0], len(sizes)), HALF_ONE)
        return dataclasses.replace(weight, codes=put_back(weight.codes, dropped, shape, 0), halves=halves, sizes=sizes)

    def onnx(self, weight: GroupWeight) -> OnnxForm | str:
        """Dequantized in blocks of a row with a zero point each; by a product where groups were cut to other sizes."""
        codes, sizes = weight.codes.cpu().flatten(1).numpy(), weight.sizes.cpu().numpy()
        steps, shape = steps_of(weight.halves, weight.scale).cpu().numpy(), np.array(weight.shape, np.int64)
        even = bool((sizes[:-1] == sizes[0]).all()) and sizes[-1] <= sizes[0] and codes.size > 0
        # the least code of a group, or 0, becomes the least number of the bits
        zeros = -_spans(codes, sizes)[0] - 2 ** (weight.bits - 1) if even else np.zeros_like(steps, np.int32)

        def expand(nodes: Nodes, stored: Any) -> Any:
            step = nodes.constant("step", steps)
            if even:
                zero = nodes.constant("zero", zeros, like=stored)
                rows = nodes.node("DequantizeLinear", stored, step, zero, axis=1, block_size=int(sizes[0]))
            else:
                column = nodes.constant("group", np.repeat(np.arange(len(sizes)), sizes))
                own = nodes.node("Gather", step, column, axis=1)
                rows = nodes.node("Mul", nodes.node("Cast", stored, to=np.float32), own)
            return nodes.node("Reshape", rows, nodes.constant("shape", shape))

        shifted = (codes + np.repeat(zeros, sizes, 1)).astype(np.int32)
        return OnnxForm(shifted, weight.weight().cpu().numpy(), expand, "groups", REASON)

    def describe(self, weight: GroupWeight) -> dict[str, Any]:
        """``group``: the weights of a row's first group; ``groups``: how many there are; the range of their steps."""
        steps = steps_of(weight.halves, weight.scale)
        ends = [float(steps.min()), float(steps.max())] if steps.numel() else None
        about = {"group": int(weight.sizes[0]), "groups": weight.halves.numel(), "steps": ends}
        return {**super().describe(weight), **about}


def _columns(weight: GroupWeight) -> torch.Tensor:
    """The group of each position in a row, int64."""
    return torch.arange(len(weight.sizes), device=weight.sizes.device).repeat_interleave(weight.sizes.long())


def _spans(codes: Integers, sizes: Integers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The least of a group's codes and 0, and how far the largest or 0 is from it: each [rows, groups]."""
    starts = np.cumsum(sizes) - sizes
    low: NDArray[np.int64] = np.minimum(np.minimum.reduceat(codes, starts, axis=1), 0).astype(np.int64)
    high: NDArray[np.int64] = np.maximum(np.maximum.reduceat(codes, starts, axis=1), 0).astype(np.int64)
    return low, high - low


ENCODING = GroupEncoding()
