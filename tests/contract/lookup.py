"""An encoding as somebody else would add it: indices into a table of values. This module is all there is to it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from compression.counting.ledger import WeightBytes
from compression.counting.sizes import Dropped
from compression.encodings import Arrays, Encoding, Layout, OnnxForm
from compression.encodings.base import Integers, Numbers, Row
from compression.encodings.onnx_form import Nodes
from compression.graph.cuts import put_back, without


@dataclass(frozen=True, eq=False)
class LookupWeight:
    """``codes`` int32 in the weight's shape, ``table`` fp32 [K]."""

    name: str
    codes: torch.Tensor
    table: torch.Tensor
    kind: ClassVar[str] = "lookup"

    @property
    def bits(self) -> int:
        """Those of an index."""
        return max(1, math.ceil(math.log2(len(self.table))))

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weight."""
        return tuple(self.codes.shape)

    @property
    def zeros(self) -> int:
        """How many indices lead to a 0."""
        return int((self.weight() == 0).sum())

    def weight(self) -> torch.Tensor:
        """The table's values."""
        return self.table[self.codes.long()]


def lookup(row: Row, codes: Integers, table: Numbers) -> Numbers:
    """An index leads to a value of the table."""
    return table[codes].reshape(row["shape"])


class Lookup(Encoding[LookupWeight]):
    """One table for the whole weight."""

    kind: ClassVar[str] = "lookup"
    decode = staticmethod(lookup)

    def fields(self, weight: LookupWeight) -> dict[str, Any]:
        """None: how long the table is follows from how many numbers there are."""
        return {}

    def arrays(self, weight: LookupWeight) -> Arrays:
        """The indices and the table."""
        return Arrays({"codes": weight.codes.reshape(-1).numpy()}, {"table": weight.table.numpy()})

    def layout(self, row: Row) -> Layout:
        """An index for each weight, and a table of any length."""
        return Layout({"codes": math.prod(row["shape"])}, {"table": row["numbers"].get("table", 1)})

    def verify(self, row: Row, arrays: Arrays) -> None:
        """Indices lie in the table."""
        codes, size = arrays.streams["codes"], row["numbers"]["table"]
        if codes.size and (codes.min() < 0 or codes.max() >= size):
            raise ValueError(f"an index lies beyond a table of {size} values")

    def restore(self, layer: str, row: Row, arrays: Arrays) -> LookupWeight:
        """Indices in the weight's shape."""
        table = torch.from_numpy(np.array(arrays.numbers["table"], np.float32))
        return LookupWeight(layer, torch.from_numpy(arrays.streams["codes"]).reshape(row["shape"]), table)

    def account(self, row: Row, streams: Mapping[str, tuple[int, int]]) -> WeightBytes:
        """Index 0 is a value like any other: no byte says where zeros are."""
        return WeightBytes(sum(map(sum, streams.values())), 0, 4 * row["numbers"]["table"])

    def cut(self, weight: LookupWeight, dropped: Dropped) -> LookupWeight:
        """The table stays."""
        return dataclasses.replace(weight, codes=without(weight.codes, dropped))

    def put_back(self, weight: LookupWeight, dropped: Dropped, shape: Sequence[int]) -> LookupWeight:
        """Indices of the table's 0."""
        zero = int(torch.nonzero(weight.table == 0)[0])
        return dataclasses.replace(weight, codes=put_back(weight.codes, dropped, shape, zero))

    def onnx(self, weight: LookupWeight) -> OnnxForm | str:
        """Gathered from the table."""

        def expand(nodes: Nodes, stored: Any) -> Any:
            return nodes.node(
                "Gather", nodes.constant("table", weight.table.numpy()), nodes.node("Cast", stored, to=np.int32)
            )

        return OnnxForm(weight.codes.numpy(), weight.weight().numpy(), expand, "lookup", "indices into a table")


class LookupQuantizer(nn.Module):
    """Parametrization of a weight: the nearest value of a table, without a gradient."""

    table: torch.Tensor

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    encoding = "lookup"

    def encode(self, name: str, weight: torch.Tensor) -> LookupWeight:
        """The index of the nearest value."""
        codes = (weight.unsqueeze(-1) - self.table).abs().argmin(-1)
        return LookupWeight(name, codes.to(torch.int32), self.table)

    def bits(self) -> float:
        """Those of an index."""
        return float(max(1, math.ceil(math.log2(len(self.table)))))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest value."""
        return self.encode("", weight).weight()


ENCODING = Lookup()
