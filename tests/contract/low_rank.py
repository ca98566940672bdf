"""An encoding whose streams have other sizes than its weight: integer factors of a matrix, a step for each rank."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from compression.counting.sizes import Dropped
from compression.encodings import Arrays, Encoding, Layout
from compression.encodings.base import Integers, Numbers, Row, WeightRow
from compression.graph.cuts import without
from compression.reading import Whole


@dataclass(frozen=True, eq=False)
class LowRankWeight:
    """``left`` int32 [m, r], ``right`` int32 [r, n], ``scale`` fp32 [r]."""

    name: str
    left: torch.Tensor
    right: torch.Tensor
    scale: torch.Tensor
    bits: int = 4
    kind: ClassVar[str] = "low-rank"

    @property
    def shape(self) -> tuple[int, ...]:
        """(m, n)."""
        return (self.left.shape[0], self.right.shape[1])

    @property
    def zeros(self) -> int:
        """Elements that happen to be 0."""
        return int((self.weight() == 0).sum())

    def weight(self) -> torch.Tensor:
        """The sum of its ranks, in order."""
        total = torch.zeros(self.shape)
        for left, right, scale in zip(self.left.T, self.right, self.scale, strict=True):
            total += torch.outer(left, right).float() * scale
        return total


def low_rank(row: Row, left: Integers, right: Integers, scale: Numbers) -> Numbers:
    """A sum of outer products, rank by rank."""
    total = np.zeros(row["shape"], "f4")
    for u, v, one in zip(left.reshape(-1, row["rank"]).T, right.reshape(row["rank"], -1), scale, strict=True):
        total += np.outer(u, v).astype("f4") * one
    return total


class LowRankRow(WeightRow):
    """``rank``: of the factors."""

    rank: Whole


class LowRank(Encoding[LowRankWeight]):
    """Two factors."""

    kind: ClassVar[str] = "low-rank"
    row: ClassVar[type] = LowRankRow
    decode = staticmethod(low_rank)

    def fields(self, weight: LowRankWeight) -> dict[str, Any]:
        """The rank."""
        return {"rank": len(weight.scale)}

    def arrays(self, weight: LowRankWeight) -> Arrays:
        """The factors, and the steps of the ranks."""
        streams = {side: getattr(weight, side).contiguous().reshape(-1).numpy() for side in ("left", "right")}
        return Arrays(streams, {"scale": weight.scale.numpy()})

    def layout(self, row: Row) -> Layout:
        """m·r and r·n integers."""
        if len(row["shape"]) != 2:
            raise ValueError("only a matrix has factors")
        (m, n), rank = row["shape"], row["rank"]
        return Layout({"left": m * rank, "right": rank * n}, {"scale": rank})

    def restore(self, layer: str, row: Row, arrays: Arrays) -> LowRankWeight:
        """The factors in their shapes."""
        left, right = (torch.from_numpy(arrays.streams[side]) for side in ("left", "right"))
        scale = torch.from_numpy(np.array(arrays.numbers["scale"], np.float32))
        return LowRankWeight(layer, left.reshape(-1, row["rank"]), right.reshape(row["rank"], -1), scale, row["bits"])

    def cut(self, weight: LowRankWeight, dropped: Dropped) -> LowRankWeight:
        """Outputs are rows of the left factor, inputs columns of the right one."""
        rows, columns = ([(dim, at) for dim, at in dropped if dim == side] for side in (0, 1))
        return dataclasses.replace(weight, left=without(weight.left, rows), right=without(weight.right, columns))
